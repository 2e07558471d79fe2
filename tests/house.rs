//! Holds the rooms to the map in `src/lib.rs`: who imports from whom, and which are pure.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of the map: each imports only from those before it.
fn rooms() -> Vec<(String, bool)> {
    let map = fs::read_to_string(source().join("lib.rs")).unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | [`")).map(|row| {
        let (room, rest) = row.split_once('`').unwrap();
        (room.to_owned(), rest.trim_end_matches(" |").ends_with("| yes"))
    });
    rows.collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Every file of a room, with what is not test code.
fn code_of(room: &str) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    let dir = source().join(room);
    if dir.is_dir() {
        files(&dir, &mut paths);
    }
    paths.extend(Some(source().join(format!("{room}.rs"))).filter(|path| path.exists()));
    assert!(!paths.is_empty(), "the map names {room}, which is not there");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
        (path, code)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_room_is_on_the_map() {
    let rooms: Vec<String> = rooms().into_iter().map(|(room, _)| room).collect();
    let library = fs::read_to_string(source().join("lib.rs")).unwrap();
    let mut modules: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut mapped: Vec<&str> = rooms.iter().map(String::as_str).collect();
    modules.sort_unstable();
    mapped.sort_unstable();
    assert_eq!(modules, mapped);
}

#[test]
fn a_room_imports_only_from_rooms_above_it() {
    let rooms = rooms();
    for (at, (room, _)) in rooms.iter().enumerate() {
        for (path, code) in code_of(room) {
            for (below, _) in &rooms[at + 1..] {
                let import = format!("crate::{below}");
                assert!(!code.contains(&import), "{} imports {below}, which is below {room}", path.display());
            }
        }
    }
}

#[test]
fn a_pure_room_does_no_io() {
    const IMPURE: [&str; 14] = [
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
        "async fn",
        "unsafe",
    ];
    let pure: Vec<String> = rooms().into_iter().filter(|(_, pure)| *pure).map(|(room, _)| room).collect();
    assert!(pure.len() >= 5, "{pure:?}");
    for room in pure {
        for (path, code) in code_of(&room) {
            // Documentation may speak of anything.
            let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let code = code.join("\n").replace("forbid(unsafe_code)", "");
            for word in IMPURE {
                assert!(!code.contains(word), "{} uses {word}", path.display());
            }
        }
    }
}

/// Whoever prints an error prints what caused it, too (`{error:#}`); what the message names itself is no cause besides.
#[test]
fn an_error_says_its_cause_once() {
    let mut paths = Vec::new();
    files(&source(), &mut paths);
    let mut seen = 0;
    for path in paths {
        let code = fs::read_to_string(&path).unwrap();
        for variant in code.split("#[error(").skip(1) {
            seen += 1;
            let (message, rest) = variant.split_once(")]\n").unwrap();
            let body = rest.split("\n}").next().unwrap();
            let words: String = body.split_whitespace().collect::<Vec<_>>().join(" ");
            // thiserror takes a field of that name for the cause, and those that are marked.
            let named = words.split_once(" source: ").is_some();
            let marked = words.split(['(', '{']).nth(1).is_some_and(|field| {
                let field = field.trim_start();
                field.starts_with("#[source]") || field.starts_with("#[from]")
            });
            let says = |name: &str| message.contains(&format!("{{{name}")) || message.contains(&format!(".{name}"));
            let twice = (named && says("source")) || (marked && says("0"));
            assert!(!twice, "{}: {message} says what its cause says as well", path.display());
        }
    }
    assert!(seen > 40, "{seen}");
}
