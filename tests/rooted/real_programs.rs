//! Programs that are compiled here: what their code shows, and what `check` says before their first start.
//!
//! A test whose compiler is not installed says so and passes.

use crate::programs::{build_root, has, opened_for};
use crate::support::skip::skip_optional;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const UNAME: u32 = 63;
const SETGID: u32 = 106;
const SOCKET: u32 = 41;

/// A filter that lacks the calls of servers.
const STRICT: &str = "SystemCallFilter=@basic-io @file-system @io-event @signal @process @default";

/// Compiles a source with these arguments, and returns the file; `None` where the compiler or the machine is another one.
fn compile(dir: &Path, source: (&str, &str), compiler: &str, arguments: &[&str]) -> Option<PathBuf> {
    let (name, text) = source;
    fs::write(dir.join(name), text).unwrap();
    let program = dir.join(name.split('.').next().unwrap());
    let mut command = Command::new(compiler);
    command.args(arguments).arg("-o").arg(&program).arg(name).current_dir(dir);
    let cache = dir.join("cache");
    command.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", "")]).env("GOCACHE", cache);
    let done = command.output().ok().filter(|done| cfg!(target_arch = "x86_64") && done.status.success());
    if done.is_none() {
        skip_optional(&format!("no {compiler} for x86-64 that links this"));
    }
    done.map(|_| program)
}

fn calls(opened: &[(String, String)]) -> Vec<&str> {
    opened.iter().map(|(call, _)| &**call).collect()
}

#[test]
fn static_go_program_shows_what_go_linked_into_it() {
    let dir = TempDir::new().unwrap();
    let server =
        "package main\nimport \"net\"\nfunc main() { l, _ := net.Listen(\"tcp\", \"127.0.0.1:0\"); l.Accept() }\n";
    let Some(server) = compile(dir.path(), ("server.go", server), "go", &["build"]) else { return };
    let unit = format!("{STRICT}\nExecStart=/usr/bin/server");
    let opens = opened_for(UNAME, &unit, "/usr/bin/server", &[(&server, "/usr/bin/server")]);
    for call in ["socket", "bind", "listen", "accept4", "setsockopt"] {
        assert!(has(&opens, call, "made by server without libc"), "{call}: {opens:?}");
    }
    let quiet = "package main\nfunc main() { println(1) }\n";
    let quiet = compile(dir.path(), ("quiet.go", quiet), "go", &["build"]).unwrap();
    let opens = opened_for(UNAME, &unit, "/usr/bin/server", &[(&quiet, "/usr/bin/server")]);
    assert!(!calls(&opens).contains(&"socket") && !calls(&opens).contains(&"listen"), "{opens:?}");
}

#[test]
fn static_rust_program_shows_the_numbers_of_its_calls() {
    let dir = TempDir::new().unwrap();
    let server = "fn main() { std::net::TcpListener::bind(\"127.0.0.1:0\").unwrap().accept().unwrap(); }";
    let arguments = ["-O", "-C", "target-feature=+crt-static", "-C", "relocation-model=static"];
    let Some(server) = compile(dir.path(), ("server.rs", server), "rustc", &arguments) else { return };
    let unit = format!("{STRICT}\nExecStart=/usr/bin/server");
    let opens = opened_for(UNAME, &unit, "/usr/bin/server", &[(&server, "/usr/bin/server")]);
    for call in ["socket", "bind", "listen", "accept4"] {
        assert!(has(&opens, call, "made by server without libc"), "{call}: {opens:?}");
    }
    let quiet = compile(dir.path(), ("quiet.rs", "fn main() { println!(\"1\"); }"), "rustc", &arguments).unwrap();
    let opens = opened_for(UNAME, &unit, "/usr/bin/server", &[(&quiet, "/usr/bin/server")]);
    assert!(!calls(&opens).contains(&"listen") && !calls(&opens).contains(&"accept4"), "{opens:?}");
}

/// Compiles a library whose function `serve` opens a socket in a function of its own, and whose other function makes other
/// calls, and a program that imports the first one.
fn compile_with_library(dir: &Path, linking: &[&str]) -> Option<[PathBuf; 2]> {
    let library = "#include <sys/socket.h>\n#include <sys/shm.h>\n\
         static __attribute__((noinline)) int open_socket(int kind) { return socket(kind, 1, 0) + listen(3, kind); }\n\
         int serve(int kind) { return open_socket(kind) + 1; }\n\
         int share(int size) { return shmget(0, size, 0) + shmctl(size, 0, 0); }\n";
    let made = ["-O1", "-shared", "-fPIC", "-Wl,-soname,libserve.so.1", "-Wl,--hash-style=gnu"];
    let library = compile(dir, ("libserve.c", library), "gcc", &made)?;
    fs::copy(&library, dir.join("libserve.so.1")).unwrap();
    let program = "int serve(int); int main(int n, char **v) { return serve(n); }\n";
    let arguments = [&["-O1", "-L.", "-l:libserve.so.1"], linking].concat();
    // Libraries follow the source that needs them.
    fs::write(dir.join("webd.c"), program).unwrap();
    let built =
        Command::new("gcc").args(["-O1", "-o", "webd", "webd.c"]).args(&arguments[1..]).current_dir(dir).output();
    assert!(built.unwrap().status.success());
    Some([dir.join("webd"), library])
}

#[test]
fn library_counts_with_the_functions_that_the_program_reaches() {
    let dir = TempDir::new().unwrap();
    let Some([program, library]) = compile_with_library(dir.path(), &[]) else { return };
    let unit = format!("{STRICT}\nExecStart=/usr/bin/webd");
    let copies = [(&*program, "/usr/bin/webd"), (&*library, "/usr/lib/libserve.so.1")];
    let opens = opened_for(UNAME, &unit, "/usr/bin/webd", &copies);
    for call in ["socket", "listen"] {
        assert!(has(&opens, call, "imported by libserve.so.1 for webd"), "{call}: {opens:?}");
    }
    assert!(!calls(&opens).contains(&"shmget"), "{opens:?}");
    let without = opened_for(UNAME, &unit, "/usr/bin/webd", &copies[..1]);
    assert!(!calls(&without).contains(&"socket"), "{without:?}");
    let unread = |copies| {
        let (_, answer) = check(&build_root(&unit, copies), &["--json"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let mut notes = answer["notes"].as_array().unwrap().clone().into_iter();
        notes.find(|note| note["id"] == "libraries-unread").map(|note| note["text"].to_string())
    };
    assert_eq!(unread(&copies), None);
    assert!(unread(&copies[..1]).unwrap().contains("of /usr/bin/webd, libserve.so.1"), "the library is missing");
}

#[test]
fn library_is_found_in_the_directory_that_the_program_names() {
    let dir = TempDir::new().unwrap();
    let linking = ["-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib/own"];
    let Some([program, library]) = compile_with_library(dir.path(), &linking) else { return };
    let unit = format!("{STRICT}\nRootDirectory=/srv/jail\nExecStart=/opt/bin/webd");
    let copies = [(&*program, "/srv/jail/opt/bin/webd"), (&*library, "/srv/jail/opt/lib/own/libserve.so.1")];
    let opens = opened_for(UNAME, &unit, "/opt/bin/webd", &copies);
    assert!(has(&opens, "socket", "imported by libserve.so.1 for webd"), "{opens:?}");
}

const DAEMON: &str = "#include <unistd.h>\n#include <grp.h>\n#include <sys/socket.h>\n\
     int main(int n, char **v) { setgroups(0, 0); setgid(n); setuid(n); return bind(n, 0, 0) + socket(n, 1, 0); }\n";

#[test]
fn daemon_that_drops_root_gets_all_its_identity_calls_once_one_was_denied() {
    let dir = TempDir::new().unwrap();
    let Some(daemon) = compile(dir.path(), ("daemon.c", DAEMON), "gcc", &[]) else { return };
    let unit = format!("{STRICT}\nExecStart=/usr/sbin/daemon");
    let copies = [(&*daemon, "/usr/sbin/daemon")];
    let dropped = opened_for(SETGID, &unit, "/usr/sbin/daemon", &copies);
    assert!(has(&dropped, "setuid", "imported by daemon") && calls(&dropped).contains(&"setgroups"), "{dropped:?}");
    let other = opened_for(UNAME, &unit, "/usr/sbin/daemon", &copies);
    assert!(!calls(&other).contains(&"setuid") && calls(&other).contains(&"bind"), "{other:?}");
}

#[test]
fn python_service_gets_socket_calls_once_one_was_denied() {
    let python =
        ["/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let Some(python) = python.filter(|_| cfg!(target_arch = "x86_64")) else {
        return skip_optional("no python3 for x86-64");
    };
    let unit = format!("{STRICT}\nExecStart=/usr/bin/python3 /usr/bin/serve.py");
    let opens = |call| opened_for(call, &unit, "/usr/bin/python3", &[(&python, "/usr/bin/python3")]);
    let (quiet, network) = (opens(UNAME), opens(SOCKET));
    let of_network = ["bind", "listen", "connect", "accept4"];
    assert!(!calls(&quiet).iter().any(|call| of_network.contains(call)), "{quiet:?}");
    assert!(calls(&network).contains(&"bind") && calls(&network).contains(&"connect"), "{network:?}");
}

/// Runs `check` on `x.service` below a root, where no daemon answers. Returns its status and what it prints.
fn check(root: &TempDir, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command
        .args(["--bus", "unix:path=/nonexistent", "check", "x", "--exit-code", "--root"])
        .arg(root.path())
        .args(more);
    let done = command.output().unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

#[test]
fn check_lists_the_calls_that_the_programs_import_before_the_first_start() {
    let dir = TempDir::new().unwrap();
    let Some(daemon) = compile(dir.path(), ("daemon.c", DAEMON), "gcc", &[]) else { return };
    let unit = format!("{STRICT}\nUser=daemon\nExecStart=/usr/sbin/daemon\nExecStartPost=/usr/bin/missing");
    let root = build_root(&unit, &[(&daemon, "/usr/sbin/daemon")]);
    let (status, answer) = check(&root, &["--json"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["pass"]), (Some(1), &false.into()), "{answer}");
    let foreseen = answer["foreseen"].as_array().unwrap();
    let find = |call: &str| foreseen.iter().find(|foreseen| foreseen["call"] == call).unwrap();
    let bind = find("bind");
    assert_eq!([&bind["likelihood"], &bind["reason"], &bind["effect"]], ["likely", "imported by daemon", "kill"]);
    assert!(bind["by"][0].as_str().unwrap().contains("x.service:2"), "{bind}");
    assert_eq!(find("setuid")["likelihood"], "possible", "systemd changes to the user: {foreseen:?}");
    assert_eq!(answer["unknown_programs"][0]["path"], "/usr/bin/missing");
    let (_, page) = check(&root, &["--color=never"]);
    assert!(page.contains("  will likely be denied: bind and socket (imported by daemon)"), "{page}");
    assert!(page.contains("cannot foresee further calls: /usr/bin/missing does not exist"), "{page}");
    assert!(page.lines().count() <= 15, "{page}");
    let (status, page) = check(&root, &["--with", "SystemCallFilter=@network-io"]);
    assert_eq!(status, Some(0), "{page}");
    assert!(page.contains("could be denied"), "{page}");
}

#[test]
fn check_for_other_machines_names_what_differs_there() {
    let dir = TempDir::new().unwrap();
    let Some(daemon) = compile(dir.path(), ("daemon.c", DAEMON), "gcc", &[]) else { return };
    let unit = format!("{STRICT} socket bind open @sandbox poll\nUser=daemon\nExecStart=/usr/sbin/daemon");
    let root = build_root(&unit, &[(&daemon, "/usr/sbin/daemon")]);
    let (status, answer) = check(&root, &["--json", "--for", "arm64,systemd=257"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let [arm, old] = &answer["machines"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!((&arm["machine"], &old["machine"]), (&"aarch64".into(), &"systemd 257".into()), "{answer}");
    let names = arm["other_names"].as_array().unwrap();
    let open = names.iter().find(|name| name["call"] == "open").unwrap();
    assert_eq!(
        (&open["instead"], &open["denied"]),
        (&serde_json::json!(["openat", "openat2"]), &serde_json::json!([]))
    );
    let poll = names.iter().find(|name| name["call"] == "poll").unwrap();
    assert_eq!(poll["instead"], serde_json::json!(["ppoll"]));
    assert_eq!(old["unknown_names"], serde_json::json!(["@sandbox"]));
    assert_eq!(status, Some(0), "{answer}");
    let narrow = build_root("SystemCallFilter=read write open close\nExecStart=/usr/sbin/daemon", &[]);
    let (status, page) = check(&narrow, &["--color=never", "--for", "arm64"]);
    assert!(page.contains("open is openat, openat2 there, which would be denied"), "{page}");
    assert_eq!(status, Some(1), "{page}");
    for wrong in ["vax", "systemd=12", "systemd=x"] {
        assert_eq!(check(&root, &["--for", wrong]).0, Some(2), "{wrong}");
    }
}
