//! The words by which programs say that SIGSYS killed a process, in the languages of shells.

use memchr::memmem;

/// `strsignal(SIGSYS)`, which bash and dash print, in the languages of glibc (`libc.po`).
const STRSIGNAL: [&str; 36] = [
    "Bad system call",
    "Дрэнны сыстэмны выклік",
    "Неправилно системно извикване",
    "La crida al sistema no és vàlida",
    "Chybné volání systému (SIGSYS)",
    "Ugyldigt systemkald",
    "Ungültiger Betriebssystemaufruf",
    "Ungültiger Systemaufruf",
    "Εσφαλμένη κλήση συστήματος",
    "Misa sistemvoko",
    "Llamada al sistema errónea",
    "Virheellinen järjestelmäkutsu",
    "Appel système erroné",
    "Appel système incorrect",
    "Chamada ao sistema incorrecta",
    "Loši sustavski poziv",
    "Hibás rendszerhívás",
    "Pemanggilan sistem buruk",
    "Chiamata di sistema errata",
    "間違ったシステムコール",
    "시스템 콜이 잘못됨",
    "Blogas sisteminis kvietimas",
    "Ugyldig systemkall",
    "Onjuiste systeemaanroep",
    "Błędne wywołanie systemowe",
    "Má chamada de sistema",
    "Chamada de sistema inválida",
    "Неверный системный вызов",
    "Chybné volanie systému",
    "Slab sistemski klic",
    "Лош системски позив",
    "Felaktigt systemanrop",
    "Sistem çağrısı hatalı",
    "Помилковий системний виклик",
    "Cuộc gọi hệ thống sai",
    "错误的系统调用",
];

/// The same words of Go programs and zsh, and without a translation in glibc.
const OTHER_STRSIGNAL: [&str; 3] = ["無效系統呼叫", "bad system call", "invalid system call"];

/// The signal, as other programs print it: Go and Rust programs, supervisord, nginx, systemd and its tools, Python.
const SIGNAL: [&str; 9] = [
    "by SIGSYS",
    "signal SIGSYS",
    "(SIGSYS",
    "Signals.SIGSYS",
    "signal=SYS",
    "status=SYS",
    "signal 31",
    "31/SYS",
    "31 (SYS)",
];

/// Parts of words about the end of a process.
const ENDS: [&str; 9] = ["kill", "died", "terminat", "exit", "crash", "dump", "abort", "fail", "code="];

/// Parts of words near a signal that ends no process, and how near, in bytes.
const NEAR: usize = 12;
const SPARES: [&str; 5] = ["ignor", "handl", "block", "mask", "install"];

/// Returns what stands before and after the first words in a line which say that SIGSYS ended a process.
pub(super) fn find_phrase(line: &str) -> Option<(&str, &str)> {
    let told = STRSIGNAL.iter().chain(&OTHER_STRSIGNAL).filter_map(|words| find_told(line, words, is_shell_report));
    let named = SIGNAL.iter().filter_map(|words| find_told(line, words, names_end));
    let (at, length) = told.chain(named).min()?;
    Some((&line[..at], &line[at + length..]))
}

/// Returns where words stand in a line, and their length, if the texts before and after them say that a process ended.
fn find_told(line: &str, words: &str, is_end: impl Fn(&str, &str) -> bool) -> Option<(usize, usize)> {
    let is_told = |at: usize| {
        let (before, after) = (&line[..at], &line[at + words.len()..]);
        // Not `signal 311`.
        !after.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_end(before, after)
    };
    let mut places = memchr::memmem::find_iter(line.as_bytes(), words);
    places.find(|at| is_told(*at)).map(|at| (at, words.len()))
}

/// Whether words between two texts are those of a shell about a process: at the start, behind its pid, or behind a name and
/// a colon; of make, behind its target; or of dpkg, in parentheses. Other programs can quote the text of the signal.
fn is_shell_report(before: &str, after: &str) -> bool {
    let before = before.trim_end();
    let is_pid = before.rsplit(' ').next().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    let rest = after.trim_start();
    let ends_message = rest.is_empty() || rest.starts_with(['(', '\u{ff08}']) || after.starts_with("  ");
    // `make: *** [Makefile:3: all] Bad system call`, and `[1]+  Bad system call` of a job.
    let is_target = before.ends_with(']') && before.contains("*** [");
    let is_job = before.starts_with('[') && before.trim_end_matches(['+', '-', ' ']).ends_with(']');
    let is_behind = before.ends_with(':') || is_target || (is_job && !before.contains(' '));
    // `subprocess was killed by signal (Bad system call)`
    let is_in_parentheses = after.starts_with(')') && before.to_lowercase().ends_with("signal (");
    before.is_empty() || is_pid || before.ends_with("signal") || is_in_parentheses || (is_behind && ends_message)
}

/// Whether the texts before and after a signal's name say that it ended a process.
fn names_end(before: &str, after: &str) -> bool {
    let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
    let has_end = ENDS.iter().any(|word| before.contains(word) || after.contains(word));
    let start = before.floor_char_boundary(before.len().saturating_sub(NEAR));
    let near = [&before[start..], &after[..after.floor_char_boundary(NEAR)]];
    let is_spare = SPARES.iter().any(|word| near.iter().any(|near| near.contains(word)));
    // `signal: 31 (SIGSYS)` is how Rust and coredumpctl print the end of a process.
    let is_field = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ').ends_with("signal:");
    is_field || (has_end && !is_spare)
}

/// Whether lines may have such words.
pub(super) fn may_have_phrase(lines: &[u8]) -> bool {
    let mut words = STRSIGNAL.iter().chain(&OTHER_STRSIGNAL).chain(&SIGNAL);
    words.any(|words| memmem::find(lines, words.as_bytes()).is_some())
}

/// Whether a line says that a process exited with status 159, by which a shell reports that its command died of SIGSYS
/// (128 + 31).
pub(super) fn is_exit_159(line: &str) -> bool {
    const NEAR: usize = 24;
    let is_told = |at: usize| {
        let (before, after) = (&line[..at], &line[at + 3..]);
        let mut start = before.len().saturating_sub(NEAR);
        while !before.is_char_boundary(start) {
            start += 1;
        }
        let near = before[start..].to_ascii_lowercase();
        let is_number = !before.ends_with(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
            && !after.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        // Other programs count by a status or a code as well.
        let says = ["exit", "non-zero code"].iter().any(|word| near.contains(word));
        is_number && says && !after.trim_start().starts_with("ms") && !after.trim_start().starts_with("byte")
    };
    line.match_indices("159").any(|(at, _)| is_told(at))
}
