//! Puts the BPF objects where `src/kernel/bpf.rs` includes them: the checked-in ones or, with `HARDEN_WHY_BPF_CLANG` set to the
//! name of a clang, objects that it builds from the sources in `src/kernel/bpf`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SOURCES: &str = "src/kernel/bpf";
const COMPILER: &str = "HARDEN_WHY_BPF_CLANG";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-env-changed={COMPILER}");
    let (arch, endian) = (env::var("CARGO_CFG_TARGET_ARCH")?, env::var("CARGO_CFG_TARGET_ENDIAN")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The tap reads registers, which are the architecture's.
    let has_tap = matches!(arch.as_str(), "x86_64" | "aarch64" | "riscv64") && endian == "little";
    let tap = has_tap.then(|| format!("tap.{arch}.bpf.o"));
    match env::var(COMPILER) {
        Ok(clang) if !clang.is_empty() => {
            compile(&clang, &endian, "exit_notes", None, &out)?;
            place(tap.map(|_| compile(&clang, &endian, "tap", Some(&arch), &out)).transpose()?, &out.join("tap.bpf.o"))
        }
        _ => {
            let checked_in = |name: &str| Path::new(SOURCES).join(name);
            let notes = (endian == "little").then(|| checked_in("exit_notes.bpf.o"));
            place(notes, &out.join("exit_notes.bpf.o"))?;
            place(tap.map(|name| checked_in(&name)), &out.join("tap.bpf.o"))
        }
    }
}

/// Copies an object to its place. An empty file stands for an object that this machine has not.
fn place(object: Option<PathBuf>, to: &Path) -> Result<(), Box<dyn Error>> {
    match object {
        Some(object) if object == to => {}
        Some(object) => drop(fs::copy(object, to)?),
        None => fs::write(to, "")?,
    }
    Ok(())
}

/// Builds an object as `packaging/bpf/build` does, with types but without other debugging information.
fn compile(clang: &str, endian: &str, name: &str, arch: Option<&str>, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let object = out.join(format!("{name}.bpf.o"));
    let mut command = Command::new(clang);
    command.args(["-target", if endian == "little" { "bpfel" } else { "bpfeb" }, "-mcpu=v3", "-O2", "-g"]);
    command.args(arch.map(|arch| format!("-DARCH_{arch}")));
    command.arg("-c").arg(format!("{SOURCES}/{name}.bpf.c")).arg("-o").arg(&object);
    let status = command.status().map_err(|error| format!("cannot run {clang}, which {COMPILER} names: {error}"))?;
    if status.success() { Ok(object) } else { Err(format!("{clang} cannot build {name}.bpf.c: {status}").into()) }
}
