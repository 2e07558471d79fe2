//! Makes a large executable with many libraries, and a static one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The libraries, the functions of each, and how many of these the executable imports.
pub(crate) const LIBRARIES: usize = 200;
const FUNCTIONS: usize = 400;
const IMPORTED: usize = 40;
const MIB: usize = 100;

/// Makes an executable with many libraries, and a static one, both of 100 MiB of code.
pub(crate) fn make(root: &Path) {
    for dir in ["usr/bin", "usr/lib", "etc/systemd/system"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let mut main = String::new();
    let mut calls = String::new();
    let mut link = vec!["-L".to_owned(), root.join("usr/lib").display().to_string()];
    for library in 0..LIBRARIES {
        let mut code = String::from("#include <sys/socket.h>\n#include <unistd.h>\n");
        for function in 0..FUNCTIONS {
            let next = (function + 7) % FUNCTIONS;
            writeln!(
                code,
                "int l{library}_{next}(int); int l{library}_{function}(int n) {{ return n > 9 ? n : \
                 l{library}_{next}(n + 1) + listen(n, {function}) + fsync(n); }}"
            )
            .unwrap();
        }
        let name = format!("libl{library}.so.1");
        gcc(root, &code, &["-O1", "-shared", "-fPIC", &format!("-Wl,-soname,{name}")], &format!("usr/lib/{name}"));
        link.push(format!("-l:{name}"));
        for function in 0..IMPORTED {
            writeln!(main, "int l{library}_{function}(int);").unwrap();
            writeln!(calls, "n += l{library}_{function}(n);").unwrap();
        }
    }
    let filler = format!("__asm__(\".text\\n.fill {}, 1, 0x90\\n\");\n", MIB << 20);
    let link: Vec<&str> =
        ["-O1", "-Wl,--allow-shlib-undefined"].into_iter().chain(link.iter().map(String::as_str)).collect();
    gcc(root, &format!("{main}{filler}int main(int n, char **v) {{ {calls} return n; }}"), &link, "usr/bin/large");
    gcc(root, &format!("{filler}int main(void) {{ return 0; }}"), &["-static"], "usr/bin/static");
}

fn gcc(root: &Path, code: &str, arguments: &[&str], to: &str) {
    let source = root.join("source.c");
    fs::write(&source, code).unwrap();
    let (before, after) = arguments.split_at(1);
    let done = Command::new("gcc").args(before).arg("-o").arg(root.join(to)).arg(&source).args(after).status().unwrap();
    assert!(done.success());
}
