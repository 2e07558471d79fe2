//! Holds `src/` to its rules: the map of rooms in `lib.rs`, no circles, one definition a name, pure rooms, errors.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../packaging/structure/analysis/mod.rs"]
mod analysis;

use analysis::{File, Tree};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

fn tree() -> &'static Tree {
    static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap());
    &TREE
}

#[test]
fn map_lists_every_room() {
    let tree = tree();
    let mut mapped: Vec<&str> = tree.rooms.iter().map(|room| room.name.as_str()).collect();
    let mut rooms: Vec<&str> = tree.files.iter().map(File::room).filter(|room| !room.is_empty()).collect();
    rooms.dedup();
    mapped.sort_unstable();
    rooms.sort_unstable();
    rooms.dedup();
    assert_eq!(rooms, mapped);
}

#[test]
fn no_two_files_import_each_other() {
    let tree = tree();
    let circles: Vec<String> = tree.circles().iter().map(|circle| tree.describe_circle(circle)).collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n\n"));
}

#[test]
fn room_imports_only_from_rooms_above_it() {
    let backward = tree().backward_imports();
    assert!(backward.is_empty(), "{}", backward.join("\n"));
}

#[test]
fn type_name_is_defined_once() {
    let shared = tree().shared_type_names();
    let lines: Vec<String> =
        shared.iter().map(|shared| format!("{}: {}", shared.name, shared.files.join(", "))).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn no_function_is_called_of() {
    assert_eq!(tree().of_functions(), Vec::<String>::new());
}

#[test]
fn pure_room_does_no_io() {
    const IMPURE: [&str; 12] = [
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::env",
        "std::thread",
        "std::time",
        "std::os::fd",
        "tokio",
        "zbus",
        "rusqlite",
        "nix::unistd",
    ];
    let tree = tree();
    let pure: Vec<&str> = tree.rooms.iter().filter(|room| room.is_pure).map(|room| room.name.as_str()).collect();
    assert!(pure.len() >= 5, "{pure:?}");
    for file in tree.code_files().filter(|file| pure.contains(&file.room())) {
        let imports = file.source.imports.iter().map(|import| &import.path);
        for path in imports.chain(&file.source.paths) {
            let path = path.segments.join("::");
            let impure = |word: &str| path == word || path.starts_with(&format!("{word}::"));
            assert!(!IMPURE.iter().any(|word| impure(word)), "{} uses {path}", file.path);
        }
        let keywords = &file.source.impure_keywords;
        assert!(keywords.is_empty(), "{} uses {keywords:?}", file.path);
    }
}

/// A program prints an error with its causes (`{error:#}`), so a message does not repeat its own cause.
#[test]
fn error_message_does_not_repeat_its_cause() {
    let mut seen = 0;
    for file in &tree().files {
        let code = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&file.path)).unwrap();
        for variant in code.split("#[error(").skip(1) {
            seen += 1;
            let (message, rest) = variant.split_once(")]\n").unwrap();
            let body = rest.split("\n}").next().unwrap();
            let words: String = body.split_whitespace().collect::<Vec<_>>().join(" ");
            // thiserror takes a field of this name for the cause, and fields that are marked.
            let named = words.split_once(" source: ").is_some();
            let marked = words.split(['(', '{']).nth(1).is_some_and(|field| {
                let field = field.trim_start();
                field.starts_with("#[source]") || field.starts_with("#[from]")
            });
            let says = |name: &str| message.contains(&format!("{{{name}")) || message.contains(&format!(".{name}"));
            let twice = (named && says("source")) || (marked && says("0"));
            assert!(!twice, "{}: {message} says what its cause says as well", file.path);
        }
    }
    assert!(seen > 40, "{seen}");
}

/// `unit_files/rooted.rs` is the one door to files below a root. The exceptions read no file of another machine.
#[test]
fn no_file_below_a_root_is_read_past_its_door() {
    const DOOR: &str = "unit_files/rooted.rs";
    const EXCEPTIONS: [(&str, &str); 7] = [
        ("cli/lookup/unit_words.rs", "compares names of paths as typed, reads no file"),
        ("cli/verbs/demo.rs", "reads a directory that it made"),
        ("daemon/config/config_files.rs", "reads the daemon's own configuration"),
        ("kernel/exit_cgroups/cgroup_names.rs", "the root is this machine's"),
        ("kernel/procfs.rs", "the root is /proc"),
        ("operations/local_machine.rs", "names the places to write"),
        ("systemd/exposure_score.rs", "reads a directory that it made"),
    ];
    let code = |path: &str| {
        let code = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)).unwrap();
        code.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
    };
    let joins = |code: &str| {
        let is_join = |word: &&str| code.contains(*word) || code.contains(&word.replace(".join", ".path().join"));
        [" root.join(", "(root.join(", "!root.join(", "self.root.join(", "&root.join(", "host_path("]
            .iter()
            .any(is_join)
    };
    for file in tree().code_files().filter(|file| file.path != DOOR && !file.path.contains("fake_manager")) {
        let is_exception = EXCEPTIONS.iter().any(|(path, _)| file.path == *path);
        assert!(is_exception || !joins(&code(&file.path)), "{} reads below a root: use {DOOR}", file.path);
    }
    for (path, _) in EXCEPTIONS {
        assert!(joins(&code(path)), "{path} is no exception any more");
    }
    assert!(joins("fs::read(root.join(path))"), "a read past the door is found");
}

/// A user's unit needs `systemctl --user`: [`Manager::systemctl`] writes each command about a unit. Only harden-whyd and
/// user managers are units of the system manager everywhere.
#[test]
fn printed_systemctl_command_names_its_manager() {
    const WRITER: &str = "units/name.rs";
    const OF_SYSTEM: [&str; 2] = ["harden-whyd", "user@"];
    let chooses_no_manager = |line: &str| {
        let commands = line.split("systemctl ").skip(1);
        let is_comment = line.trim_start().starts_with("//");
        !is_comment
            && commands.into_iter().any(|rest| {
                let is_command = rest.starts_with(|c: char| c == '{' || c.is_ascii_lowercase());
                is_command && !OF_SYSTEM.iter().any(|unit| rest.contains(unit)) && !rest.starts_with("status'")
            })
    };
    let mut seen = false;
    for file in &tree().files {
        let code = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&file.path)).unwrap();
        let code = code.split("#[cfg(test)]\nmod tests").next().unwrap();
        let found = code.lines().find(|line| chooses_no_manager(line));
        seen |= file.path == WRITER && found.is_some();
        assert!(file.path == WRITER || file.is_test || found.is_none(), "{}: {found:?}", file.path);
    }
    assert!(seen, "{WRITER} writes no commands any more");
    assert!(chooses_no_manager("format!(\"run systemctl daemon-reload\")"));
    assert!(chooses_no_manager("format!(\"systemctl {flag}restart {name}\")"));
}
