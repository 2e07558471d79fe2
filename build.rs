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
    // Some read registers, which are the architecture's.
    let has_registers = matches!(arch.as_str(), "x86_64" | "aarch64" | "riscv64") && endian == "little";
    let clang = env::var(COMPILER).ok().filter(|clang| !clang.is_empty());
    for (name, is_known, arch) in [
        ("exit_notes", endian == "little" || clang.is_some(), None),
        ("call_sites", has_registers, Some(&*arch)),
        ("call_failures", has_registers, Some(&*arch)),
        ("tap", has_registers, Some(&*arch)),
    ] {
        let checked_in = || match arch {
            Some(arch) => Path::new(SOURCES).join(format!("{name}.{arch}.bpf.o")),
            None => Path::new(SOURCES).join(format!("{name}.bpf.o")),
        };
        let object = match &clang {
            Some(clang) => is_known.then(|| compile(clang, &endian, name, arch, &out)).transpose()?,
            None => is_known.then(checked_in),
        };
        place(object, &out.join(format!("{name}.bpf.o")))?;
    }
    Ok(())
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
