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

/// What other programs print: Go and Rust programs, zsh, supervisord, nginx, systemd and its tools, Python.
const OTHERS: [&str; 12] = [
    "無效系統呼叫",
    "bad system call",
    "zsh: invalid system call",
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

/// Returns what stands before and after the first such words in a line.
pub(super) fn find_phrase(line: &str) -> Option<(&str, &str)> {
    let found = STRSIGNAL.iter().chain(&OTHERS).filter_map(|words| Some((line.find(words)?, words.len())));
    let (at, length) = found.min()?;
    let after = &line[at + length..];
    // Not `signal 311`.
    let is_whole = !after.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_whole.then(|| (&line[..at], after))
}

/// Whether lines may have such words.
pub(super) fn may_have_phrase(lines: &[u8]) -> bool {
    STRSIGNAL.iter().chain(&OTHERS).any(|words| memmem::find(lines, words.as_bytes()).is_some())
}

/// Whether a line says that a process exited with status 159, by which a shell reports that its command died of SIGSYS
/// (128 + 31).
pub(super) fn is_exit_159(line: &str) -> bool {
    const NEAR: usize = 16;
    let is_told = |at: usize| {
        let (before, after) = (&line[..at], &line[at + 3..]);
        let mut start = before.len().saturating_sub(NEAR);
        while !before.is_char_boundary(start) {
            start += 1;
        }
        let near = before[start..].to_ascii_lowercase();
        let is_number = !before.ends_with(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
            && !after.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let says = ["exit", "status", "code", "returned"].iter().any(|word| near.contains(word));
        is_number && says && !after.trim_start().starts_with("ms") && !after.trim_start().starts_with("byte")
    };
    line.match_indices("159").any(|(at, _)| is_told(at))
}
