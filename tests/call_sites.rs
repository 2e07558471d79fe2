//! Where processes made their denied calls: real deaths by seccomp, and refusals that a tap sees, of programs whose code is
//! known and of real ones.
//!
//! Each case runs 20 times; `HARDEN_WHY_FULL=1 cargo test --test call_sites -- --nocapture` makes it 200 times, and both print
//! the tables. A case whose program is not installed does not run.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

mod support {
    pub(crate) mod skip;
}

use harden_why::audit::Action;
use harden_why::incidents::{CallSite, CodePlace};
use harden_why::kernel::call_sites::CallSites;
use harden_why::kernel::failed_call::FailedEvent;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::kernel::tap::{Tap, TapOptions, TapReport, TapTarget};
use harden_why::programs::{ElfFile, find_function};
use harden_why::syscalls::{Abi, Arch, Call};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs};
use support::skip::{skip, skip_optional};

/// How long a program may take to make its call.
const PATIENCE: Duration = Duration::from_mins(1);

/// Functions that make the same call in different ways. Each is a case by its name.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#define APART __attribute__((noinline))
long in_library(void);
volatile long kept;
APART long direct(void) { return kept = fchown(-1, 0, 0); }
APART long by_number(void) { return kept = syscall(SYS_fchown, -1, 0, 0); }
int (*volatile pointer)(int, unsigned, unsigned) = fchown;
APART long failing(void) { setuid(65534); return kept = chroot("/"); }
APART long by_pointer(void) { return kept = pointer(-1, 0, 0); }
long framed(void *);
long other(void);
extern char after_other[];
// framed: keeps something on the stack. What lies there can be any address: the argument.
// other: is called right before after_other.
asm(".text\n.type framed,@function\nframed: sub $24, %rsp\n mov %rdi, (%rsp)\n mov $93, %eax\n syscall\n add $24, %rsp\n ret\n"
    ".size framed, .-framed\n.type other,@function\nother: ret\n.size other, .-other\n"
    ".type caller_of_other,@function\ncaller_of_other: call other\n.globl after_other\nafter_other: ret\n"
    ".type caller_of_framed,@function\ncaller_of_framed: call framed\n.globl after_framed\nafter_framed: ret\n"
    // Leaves the stack alone but was not called: the word there is made up.
    ".type jumped,@function\njumped: push %rdi\n jmp bare\n.size jumped, .-jumped\n"
    ".type bare,@function\nbare: mov $93, %eax\n syscall\n ret\n.size bare, .-bare\n");
extern char after_framed[];
long jumped(void *);
int main(int count, char **words) {
    const char *how = count > 1 ? words[1] : "";
    if (!strcmp(how, "direct")) direct();
    if (!strcmp(how, "by_number")) by_number();
    if (!strcmp(how, "by_pointer")) by_pointer();
    if (!strcmp(how, "failing")) failing();
    if (!strcmp(how, "in_library")) in_library();
    if (!strcmp(how, "stale")) framed(after_framed);
    if (!strcmp(how, "made_up")) jumped(after_other);
    return 9;
}
"#;

const LIBRARY: &str = "#include <unistd.h>\nlong in_library(void) { return fchown(-1, 0, 0) + 1; }\n";

const GO: &str = "package main\nimport \"syscall\"\nfunc main() { syscall.Fchown(-1, 0, 0) }\n";

/// Deaths of one kind, and where their calls must come from.
struct Case {
    name: &'static str,
    call: &'static str,
    command: Vec<String>,
    /// The file and the function of the call.
    code: (PathBuf, &'static str),
    /// The file that calls this function, and its function if its name is known. `None` if no caller may be found.
    caller: Option<(PathBuf, Option<&'static str>)>,
}

/// What the deaths of a case showed.
#[derive(Default)]
struct Tally {
    right: u32,
    absent: u32,
    wrong: Vec<String>,
}

#[test]
fn call_of_killed_process_is_noted_with_its_caller() {
    let sites = match CallSites::open() {
        Ok(sites) => sites,
        Err(error) => return skip(&error.to_string()),
    };
    let temp = tempfile::tempdir().unwrap();
    judge_cases(&cases(temp.path()), |case| die(&sites, case, temp.path()));
}

#[test]
fn call_that_a_tap_sees_refused_is_noted_with_its_caller() {
    let temp = tempfile::tempdir().unwrap();
    let cases = cases(temp.path());
    let refused: Vec<&str> = cases.iter().map(|case| case.call).collect();
    let Some((mut stage, mut tap)) = Stage::start(&refused, temp.path()) else { return };
    judge_cases(&cases, |case| {
        let number = Call::named(Arch::native(), case.call).number();
        stage.run(case, |pid| {
            let TapReport { refusals, .. } = tap.collect();
            let own = refusals.into_iter().find(|refusal| refusal.pid == pid && Some(refusal.number) == number);
            own.map(|refusal| refusal.site.map(|site| *site))
        })
    });
}

#[test]
fn call_that_a_tap_sees_failing_is_noted_with_its_caller() {
    let temp = tempfile::tempdir().unwrap();
    let cases = cases(temp.path()).into_iter().filter(|case| case.name == "direct");
    let failing = |case: Case| Case {
        name: "failing",
        call: "chroot",
        command: vec![case.command[0].clone(), "failing".to_owned()],
        code: (case.code.0, "chroot"),
        caller: case.caller.map(|(program, _)| (program, Some("failing"))),
    };
    let cases: Vec<Case> = cases.map(failing).collect();
    let Some((mut stage, mut tap)) = Stage::start(&[], temp.path()) else { return };
    judge_cases(&cases, |case| {
        let number = Call::named(Arch::native(), case.call).number();
        let is_call =
            |event| matches!(event, FailedEvent::Call { number: failed, errno: 1, .. } if Some(failed) == number);
        stage.run(case, |pid| {
            let failures = tap.collect().failures;
            let own = failures.into_iter().find(|failure| failure.pid == pid && is_call(failure.event));
            own.map(|failure| failure.site.map(|site| *site))
        })
    });
}

/// A shell under a tap that runs commands one after the other.
struct Stage {
    shell: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Stage {
    /// Starts the shell, under a filter that refuses some calls.
    fn start(refused: &[&str], directory: &Path) -> Option<(Self, Tap)> {
        const LOOP: &str = "while read -r line; do eval \"$line\" >/dev/null 2>&1 </dev/null & echo $!
            read -r line; kill -KILL $!; wait $!; echo; done 2>/dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", LOOP]).current_dir(directory).env("LD_LIBRARY_PATH", directory);
        load_filter(&mut command, refused, return_value(Action::Errno, 1));
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let tap = match Tap::open(&[TapTarget::Process(shell.id())], TapOptions::default()) {
            Ok(tap) => Some(tap),
            Err(error) => {
                skip(&format!("no tap: {error}"));
                None
            }
        };
        let stage = Self { shell, commands, answers: BufReader::new(answers).lines() };
        Some((stage, tap?))
    }

    /// Runs a command until something is found of its process, and returns that. Some programs end by the result of their
    /// call; nginx waits for signals.
    fn run<T>(&mut self, case: &Case, mut find: impl FnMut(u32) -> Option<T>) -> T {
        let words: Vec<String> = case.command.iter().map(|word| format!("'{word}'")).collect();
        writeln!(self.commands, "exec {}", words.join(" ")).unwrap();
        let pid = self.answers.next().unwrap().unwrap().parse().unwrap();
        let began = Instant::now();
        let found = loop {
            if let Some(found) = find(pid) {
                break found;
            }
            assert!(began.elapsed() < PATIENCE, "{}: the tap reports no {} of process {pid}", case.name, case.call);
            sleep(Duration::from_millis(1));
        };
        writeln!(self.commands).unwrap();
        assert_eq!(self.answers.next().unwrap().unwrap(), "");
        found
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        _ = self.shell.kill();
        _ = self.shell.wait();
    }
}

/// Runs cases several times each, judges where their calls were made, and prints a table.
fn judge_cases(cases: &[Case], mut run: impl FnMut(&Case) -> Option<CallSite>) {
    if Arch::native().abi(None) != Some(Abi::X86_64) {
        return skip_optional("callers are found on x86-64 alone");
    }
    let times = if env::var_os("HARDEN_WHY_FULL").is_some() { 200 } else { 20 };
    println!("{:<12} {:>6} {:>6} {:>6} {:>6} {:>6}", "", "calls", "code", "caller", "none", "wrong");
    for case in cases {
        let began = Instant::now();
        let (mut code, mut caller) = (Tally::default(), Tally::default());
        for _ in 0..times {
            let site = run(case);
            judge(&mut code, site.as_ref().map(|site| &site.code), Some((&case.code.0, Some(case.code.1))));
            let expected = case.caller.as_ref().map(|(file, function)| (&**file, *function));
            judge(&mut caller, site.as_ref().and_then(|site| site.caller.as_ref()), expected);
        }
        let name = case.name;
        println!(
            "{name:<12} {times:>6} {:>6} {:>6} {:>6} {:>6} {:?}",
            code.right,
            caller.right,
            caller.absent,
            caller.wrong.len(),
            began.elapsed() / times
        );
        assert_eq!((code.right, &code.wrong[..]), (times, &[][..]), "{name}: the place of the call");
        assert!(caller.wrong.is_empty(), "{name}: {:?}", caller.wrong);
        let least = if case.caller.is_some() { times } else { 0 };
        assert_eq!(caller.right, least, "{name}: {} callers are absent", caller.absent);
    }
}

/// Counts a place: right, absent or wrong.
fn judge(tally: &mut Tally, place: Option<&CodePlace>, expected: Option<(&Path, Option<&str>)>) {
    let Some(place) = place else {
        tally.absent += 1;
        return;
    };
    let path = PathBuf::from(String::from_utf8_lossy(&place.path).into_owned());
    let bytes = fs::read(&path).unwrap_or_default();
    let build_id = ElfFile::read_build_id(&mut &bytes[..]).unwrap_or_default().into_vec();
    let function = find_function(&mut &bytes[..], place.offset);
    let is_right = expected.is_some_and(|(file, name)| {
        path == file
            && place.build_id == build_id
            && name.is_none_or(|name| function.as_deref().is_some_and(|function| is_called(function, name)))
    });
    if is_right {
        tally.right += 1;
    } else {
        tally.wrong.push(format!("{} {function:?} {place:?}, expected {expected:?}", path.display()));
    }
}

/// Whether a function has a name. Versions of Go have their package in different directories.
fn is_called(function: &str, name: &str) -> bool {
    function.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// Makes a command run under a filter that gives some calls a result.
fn load_filter(command: &mut Command, calls: &[&str], result: u32) {
    let number = |call: &&str| Call::named(Arch::native(), call).number().unwrap();
    let mut rules: Vec<(u32, u32)> = calls.iter().map(|call| (number(call), result)).collect();
    rules.sort_unstable();
    rules.dedup();
    let filter = SeccompFilter::new(Arch::native(), &rules, ALLOW);
    // SAFETY: calls prctl and seccomp only; the child has no other thread.
    unsafe {
        command.pre_exec(move || {
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            filter.load(false)
        })
    };
}

/// Runs a command that a filter kills, and returns the note of its death.
fn die(sites: &CallSites, case: &Case, directory: &Path) -> Option<CallSite> {
    let mut command = Command::new(&case.command[0]);
    command.args(&case.command[1..]).current_dir(directory).env("LD_LIBRARY_PATH", directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    load_filter(&mut command, &[case.call], return_value(Action::KillProcess, 0));
    let mut child = command.spawn().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{}: {status}", case.name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let noted = sites.call_site(child.id(), i64::try_from(now).unwrap(), None)?;
    assert!(noted.is_complete, "{}: {noted:?}", case.name);
    Some(noted.site)
}

/// Runs a compiler. Returns whether it succeeded.
fn build(program: &str, arguments: &[&str], directory: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("GOCACHE", directory.join("cache")).env("CGO_ENABLED", "0");
    let output = command.output();
    output.is_ok_and(|output| {
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        true
    })
}

fn cases(directory: &Path) -> Vec<Case> {
    let at = |name: &str| directory.join(name).canonicalize().unwrap();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let libc = find_libc();
    let mut cases = Vec::new();
    fs::write(directory.join("program.c"), PROGRAM).unwrap();
    fs::write(directory.join("library.c"), LIBRARY).unwrap();
    if build("cc", &["-O1", "-shared", "-fPIC", "-o", "libhere.so", "library.c"], directory) {
        for (name, flag) in [("plt", "-fplt"), ("no-plt", "-fno-plt")] {
            build("cc", &["-O1", flag, "-o", name, "program.c", "-L.", "-lhere"], directory);
            let program = at(name);
            let case = |how: &'static str, code, caller| Case {
                name: how,
                call: "fchown",
                command: vec![program.display().to_string(), how.to_owned()],
                code,
                caller,
            };
            let fchown = || (libc.clone(), "fchown");
            cases.extend([
                case("direct", fchown(), Some((program.clone(), Some("direct")))),
                case("by_number", (libc.clone(), "syscall"), Some((program.clone(), Some("by_number")))),
                case("by_pointer", fchown(), None),
                case("in_library", fchown(), Some((at("libhere.so"), Some("in_library")))),
                case("stale", (program.clone(), "framed"), None),
                case("made_up", (program.clone(), "bare"), None),
            ]);
        }
    } else {
        skip_optional("there is no C compiler");
    }
    let mut add = |name, program: &str, arguments: &[&str], call| {
        let Ok(file) = Path::new(program).canonicalize() else { return skip_optional(program) };
        let command = [vec![program.to_owned()], words(arguments)].concat();
        cases.push(Case { name, call, command, code: (libc.clone(), call), caller: Some((file, None)) });
    };
    add("python", "/usr/bin/python3", &["-c", "import os; os.fchown(9, 0, 0)"], "fchown");
    add("node", "/usr/bin/node", &["-e", "fs.fchownSync(9, 0, 0)"], "fchown");
    fs::write(directory.join("nginx.conf"), "daemon off; error_log stderr; pid nginx.pid; events {}").unwrap();
    let here = directory.display().to_string();
    add("nginx", "/usr/sbin/nginx", &["-p", &here, "-c", "nginx.conf"], "socketpair");
    add("redis", "/usr/bin/redis-server", &["--port", "46379"], "bind");
    fs::write(directory.join("main.go"), GO).unwrap();
    fs::write(directory.join("go.mod"), "module x\n").unwrap();
    if build("go", &["build", "-o", "go-program", "."], directory) {
        let (program, call) = (at("go-program"), "fchown");
        let (code, caller) = ((program.clone(), "syscall.Syscall6"), Some((program.clone(), None)));
        cases.push(Case { name: "go", call, command: vec![program.display().to_string()], code, caller });
    } else {
        skip_optional("there is no Go compiler");
    }
    cases
}

/// Returns the libc of this machine's programs, with links resolved.
fn find_libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with("/libc.so.6")).unwrap();
    PathBuf::from(line.split_whitespace().last().unwrap())
}
