//! What the recorded programs import (`tests/data/imports`), read back and recorded.
//!
//! `tests/data/imports/record` unpacks the packages and runs the ignored test, which writes the files.

use harden_why::host::program_files::read_executable;
use harden_why::programs::{ElfFile, LibraryCalls, Program, ProgramImage};
use harden_why::syscalls::Abi;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// How deep the functions of libraries were followed for the recordings: deeper than a default counts.
const DEEPEST: u32 = 4;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/imports")
}

/// Returns the program whose imports were recorded under a name; none if there is no such record.
pub(crate) fn load(name: &str) -> Vec<Program> {
    let Ok(text) = fs::read_to_string(directory().join(format!("{name}.txt"))) else { return Vec::new() };
    let path = text.lines().nth(1).unwrap().trim_start_matches("# ").as_bytes();
    let number = |call: &str| Abi::X86_64.call_number(call).unwrap();
    let mut file =
        ElfFile { abi: Some(Abi::X86_64), is_go: text.lines().any(|line| line == "# go"), ..ElfFile::default() };
    let mut libraries: Vec<LibraryCalls> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((head, names)) = line.split_once(": ") else {
            file.imports.extend(line.split_whitespace().map(Into::into));
            continue;
        };
        match *head.split_whitespace().collect::<Vec<_>>() {
            ["calls"] => file.numbers.extend(names.split_whitespace().map(number)),
            [library, depth, ref calls @ ..] => {
                let depth: u32 = depth.parse().unwrap();
                if libraries.last().is_none_or(|last| &*last.library != library) {
                    libraries.push(LibraryCalls { library: library.into(), ..LibraryCalls::default() });
                }
                let found = libraries.last_mut().unwrap();
                if calls.is_empty() {
                    found.functions.extend(names.split_whitespace().map(|name| (name.into(), depth)));
                } else {
                    found.numbers.extend(names.split_whitespace().map(|name| (number(name), depth)));
                }
            }
            _ => panic!("{name}: {line}"),
        }
    }
    vec![Program { libraries, ..Program::new(path, ProgramImage::Native(file)) }]
}

/// Describes what a program imports, as [`load`] reads it.
fn describe(program: &Program) -> String {
    let file = program.file().unwrap();
    let mut text = String::new();
    let mut line = String::new();
    if file.is_go {
        text += "# go\n";
    }
    for name in &file.imports {
        if line.len() + name.len() >= 118 {
            writeln!(text, "{}", line.trim_end()).unwrap();
            line.clear();
        }
        write!(line, "{name} ").unwrap();
    }
    writeln!(text, "{}", line.trim_end()).unwrap();
    let call = |number: &u32| Abi::X86_64.call_name(*number).unwrap_or_default();
    if !file.numbers.is_empty() {
        writeln!(text, "calls: {}", file.numbers.iter().map(call).collect::<Vec<_>>().join(" ")).unwrap();
    }
    for LibraryCalls { library, functions, numbers } in &program.libraries {
        for depth in 0..=DEEPEST {
            let at = functions.iter().filter(|(_, at)| **at == depth).map(|(name, _)| &**name);
            let functions: Vec<&str> = at.collect();
            let calls: Vec<&str> = numbers.iter().filter(|(_, at)| **at == depth).map(|(at, _)| call(at)).collect();
            for (kind, names) in [("", functions), (" calls", calls)] {
                if !names.is_empty() {
                    writeln!(text, "{library} {depth}{kind}: {}", names.join(" ")).unwrap();
                }
            }
        }
    }
    text
}

#[test]
fn recorded_imports_are_read_back_as_written() {
    let mut with_libraries = 0;
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|extension| extension != "txt") || name == "packages" {
            continue;
        }
        let [program] = &load(name)[..] else { panic!("{name}") };
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with(&describe(program)), "{name}");
        with_libraries += usize::from(!program.libraries.is_empty());
    }
    assert!(with_libraries > 30, "{with_libraries}");
}

/// Writes the files. `HARDEN_WHY_RECORD` is a directory with the unpacked packages (`root`) and, for each program, the
/// package's name and version (`heads`).
#[test]
#[ignore = "records from packages that tests/data/imports/record unpacks"]
fn record_imports() {
    let work = PathBuf::from(std::env::var_os("HARDEN_WHY_RECORD").unwrap());
    let packages = fs::read_to_string(directory().join("packages.txt")).unwrap();
    for line in packages.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, executable, name] = *words else { panic!("{line}") };
        let head = fs::read_to_string(work.join("heads").join(name)).unwrap();
        let program = read_executable(&work.join("root"), Path::new(executable), DEEPEST).unwrap();
        assert!(program.file().is_some(), "{name}: {:?}", program.image);
        let text = format!("# {}\n# {executable}\n{}", head.trim(), describe(&program));
        fs::write(directory().join(format!("{name}.txt")), text).unwrap();
    }
}
