//! What an answer says of where a denied call was made: the functions of this machine's files, as the kernel would note them.

use harden_why::audit::Action;
use harden_why::incidents::{
    CallSite, CodePlace, Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Store,
};
use harden_why::programs::ElfFile;
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

const NO_BUS: &str = "unix:path=/nonexistent";

/// A function whose name the answer has to show.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn caller_in_this_test() -> u32 {
    std::process::id()
}

/// Returns the place behind a few bytes of a function of this process.
fn place(function: *const ()) -> CodePlace {
    let address = function as u64;
    let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
    for line in fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        if (hex(start)..hex(end)).contains(&address) {
            let path = words[5];
            let build_id = ElfFile::read_build_id(&mut &fs::read(path).unwrap()[..]).unwrap_or_default().into_vec();
            let metadata = fs::metadata(path).unwrap();
            let offset = address - hex(start) + hex(words[2]) + 5;
            return CodePlace {
                offset,
                build_id,
                file: (metadata.dev(), metadata.ino()),
                path: path.into(),
                ..CodePlace::default()
            };
        }
    }
    panic!("no file has the function")
}

/// Returns what the command prints of a killed process.
fn answer(site: &CallSite, exe: &[u8], arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let denial = Denial { call: Call::named(Arch::X86_64, "fchown"), action: Action::KillProcess };
    let incident = Incident {
        key: IncidentKey {
            unit: Some(Unit { manager: Manager::System, name: "not-here.service".parse().unwrap() }),
            event: IncidentEvent::Denial(denial),
            exe: exe.to_vec(),
            source: SightingSource::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(1_700_000_000_000),
        last: Moment::At(1_700_000_000_000),
        sample: Sample { pid: 7, call_site: Some(Box::new(site.clone())), ..Sample::default() },
    };
    Store::open(dir.path()).unwrap().record(&[incident]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command.args(["--bus", NO_BUS, "--state-dir"]).arg(dir.path()).arg("not-here").args(arguments);
    String::from_utf8(command.stdin(Stdio::null()).output().unwrap().stdout).unwrap()
}

#[test]
fn answer_for_a_killed_process_names_what_called_the_function() {
    assert_eq!(caller_in_this_test(), std::process::id());
    let (code, caller) = (place(libc::fchown as *const ()), place(caller_in_this_test as *const ()));
    let site = CallSite { code: code.clone(), caller: Some(caller.clone()), further: Vec::new() };
    let view: serde_json::Value = serde_json::from_str(&answer(&site, b"/bin/x", &["--json"])).unwrap();
    let view = &view["units"][0]["denials"][0]["call_site"];
    assert_eq!(
        (&view["code"]["function"], &view["caller"]["function"]),
        (&"fchown".into(), &"caller_in_this_test".into())
    );
    assert_eq!(view["code"]["build_id"].as_str().map(str::len), Some(2 * code.build_id.len()));
    assert_eq!(view["caller"]["file"].as_str().unwrap().as_bytes(), &caller.path[..]);
    let program = String::from_utf8_lossy(caller.path.rsplit(|byte| *byte == b'/').next().unwrap()).into_owned();
    let words =
        |arguments: &[&str], exe: &[u8]| answer(&site, exe, arguments).split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = format!("called by {program}, function caller_in_this_test");
    assert!(words(&[], b"/bin/x").contains(&expected), "{}", words(&[], b"/bin/x"));
    let full = words(&["-v"], b"/bin/x");
    assert!(full.contains("made in libc.so.6") && full.contains(&expected), "{full}");
    let own = words(&[], &caller.path);
    assert!(own.contains("called by the program itself, function caller_in_this_test"), "{own}");
}

#[test]
fn place_of_another_build_has_no_function() {
    let mut code = place(libc::fchown as *const ());
    code.build_id = vec![1; 20];
    let site = CallSite { code, ..CallSite::default() };
    let view: serde_json::Value = serde_json::from_str(&answer(&site, b"/bin/x", &["--json"])).unwrap();
    let view = &view["units"][0]["denials"][0]["call_site"];
    assert!(view["code"]["function"].is_null() && view["caller"].is_null(), "{view}");
    assert!(!answer(&site, b"/bin/x", &[]).contains("called by"));
}
