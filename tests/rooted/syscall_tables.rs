//! Compares the system call tables, number by number, with the `syscalls` crate and with libseccomp.
//!
//! Every difference is listed with its reason. A difference that is not listed fails, and so does a listed one that no
//! longer exists.

use crate::support::skip::skip;
use harden_why::syscalls::Abi;
use harden_why::syscalls::Abi::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::RangeInclusive;
use std::process::Command;

type Names = BTreeMap<u32, String>;

/// Numbers for which another source differs from our table.
struct Difference<'a> {
    abis: &'a [Abi],
    /// Without the ABI's base.
    numbers: RangeInclusive<u32>,
    /// Numbers of the range that agree.
    except: &'static [u32],
    theirs: Theirs,
    /// Versions of the other source that must differ; empty means all. Other versions may differ.
    seen_in: &'static [u32],
    reason: &'static str,
}

/// The other source's entry.
#[derive(Clone, Copy)]
enum Theirs {
    /// It lacks the number.
    Missing,
    /// It has this name, and our table another.
    Other(&'static str),
    /// It has a number that our table lacks.
    Extra,
}
use Theirs::{Extra, Missing, Other};

/// Returns the base that MIPS adds to its numbers, or x32's bit 30.
fn base(abi: Abi) -> u32 {
    match abi {
        X32 => 0x4000_0000,
        Mips | MipsEl => 4000,
        Mips64 | MipsEl64 => 5000,
        Mips64N32 | MipsEl64N32 => 6000,
        _ => 0,
    }
}

/// Returns every number to compare: the common ones and ARM's private ones.
fn compared_numbers(abi: Abi) -> impl Iterator<Item = u32> {
    (0..1000).chain(0x000f_0000..0x000f_0010).map(move |number| base(abi) + number)
}

/// Describes differences that are not listed, and listed ones that do not exist.
fn find_unexpected(theirs: &BTreeMap<Abi, Names>, version: u32, listed: &[Difference<'_>]) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut wrong = Vec::new();
    for (&abi, names) in theirs {
        let ours: BTreeMap<u32, &str> = abi.calls().collect();
        for number in ours.keys().chain(names.keys()).copied().collect::<BTreeSet<_>>() {
            let pair = (ours.get(&number).copied(), names.get(&number).map(String::as_str));
            if pair.0 == pair.1 {
                continue;
            }
            let plain = number - base(abi);
            let index = listed.iter().position(|entry| {
                entry.abis.contains(&abi)
                    && entry.numbers.contains(&plain)
                    && !entry.except.contains(&plain)
                    && match entry.theirs {
                        Missing => pair.1.is_none(),
                        Other(name) => pair.0.is_some() && pair.1 == Some(name),
                        Extra => pair.0.is_none(),
                    }
            });
            match index {
                Some(index) => _ = found.insert((index, abi, plain)),
                None => wrong.push(format!("{} {plain}: {:?} here, {:?} there", abi.name(), pair.0, pair.1)),
            }
        }
    }
    for (index, entry) in listed.iter().enumerate() {
        if !entry.seen_in.is_empty() && !entry.seen_in.contains(&version) {
            continue;
        }
        for &abi in entry.abis.iter().filter(|abi| theirs.contains_key(abi)) {
            for number in entry.numbers.clone().filter(|number| !entry.except.contains(number)) {
                if !found.contains(&(index, abi, number)) {
                    wrong.push(format!("{} {number}: no longer differs: {}", abi.name(), entry.reason));
                }
            }
        }
    }
    wrong
}

fn entry<'a>(
    abis: &'a [Abi],
    numbers: RangeInclusive<u32>,
    theirs: Theirs,
    seen_in: &'static [u32],
    reason: &'static str,
) -> Difference<'a> {
    Difference { abis, numbers, except: &[], theirs, seen_in, reason }
}

/// Returns the highest number of the calls that all ABIs share.
fn highest_number(names: impl Iterator<Item = u32>) -> u32 {
    names.filter(|number| *number < 1000).max().unwrap_or_default()
}

/// As in Cargo.toml: elsewhere the crate does not build with a stable compiler.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64",
    target_arch = "loongarch64"
))]
#[test]
fn tables_agree_with_syscalls_crate_except_listed_differences() {
    const IN_THE_CRATE: &[Abi] =
        &[X86_64, I386, Aarch64, Arm, Ppc, Ppc64, S390X, Riscv32, Riscv64, Loongarch64, Mips, Mips64, Sparc, Sparc64];
    macro_rules! names {
        ($($abi:ident: $module:ident),+) => {
            BTreeMap::from([$(($abi, compared_numbers($abi)
                .filter_map(|number| {
                    let call = syscalls::$module::Sysno::new(usize::try_from(number).ok()?)?;
                    Some((number, call.name().to_owned()))
                })
                .collect::<Names>())),+])
        };
    }
    let theirs = names! {
        X86_64: x86_64, I386: x86, Aarch64: aarch64, Arm: arm, Ppc: powerpc, Ppc64: powerpc64, S390X: s390x,
        Riscv32: riscv32, Riscv64: riscv64, Loongarch64: loongarch64, Mips: mips, Mips64: mips64, Sparc: sparc,
        Sparc64: sparc64
    };
    let generic = "the architecture left this call of the generic table out";
    let unused = "no call ever had this number";
    let listed = [
        entry(IN_THE_CRATE, 470..=472, Missing, &[], "newer than the crate"),
        entry(&[Sparc, Sparc64], 435..=435, Missing, &[], "the crate lacks clone3 here, which came late to SPARC"),
        entry(&[I386, Ppc, Ppc64, Mips], 17..=17, Other("r#break"), &[], "a Rust keyword, shown raw"),
        entry(&[Arm], 0xf_0001..=0xf_0006, Missing, &[], "the private calls of ARM"),
        entry(&[Aarch64, Loongarch64], 79..=79, Other("fstatat"), &[], "the kernel's name is newfstatat"),
        Difference {
            except: &[415],
            ..entry(&[Aarch64, Loongarch64], 403..=423, Extra, &[], "calls of 32-bit ABIs alone")
        },
        entry(&[Loongarch64], 38..=38, Extra, &[], generic),
        entry(&[Loongarch64, Riscv32], 163..=164, Extra, &[], generic),
        entry(&[Mips64], 450..=450, Missing, &[], "the crate lacks set_mempolicy_home_node here"),
        entry(&[Mips], 18..=18, Extra, &[], unused),
        entry(&[Mips], 28..=28, Extra, &[], unused),
        entry(&[Mips], 59..=59, Extra, &[], unused),
        entry(&[Mips], 82..=82, Extra, &[], unused),
        entry(&[Mips], 84..=84, Extra, &[], unused),
        entry(&[Mips], 109..=109, Extra, &[], unused),
        entry(&[Mips], 150..=150, Extra, &[], unused),
        entry(&[Mips], 221..=221, Extra, &[], unused),
        entry(&[Mips64], 177..=177, Extra, &[], unused),
        entry(&[Mips64], 193..=193, Extra, &[], unused),
    ];
    let wrong = find_unexpected(&theirs, 0, &listed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_agree_with_libseccomp_except_listed_differences() {
    let Some(libseccomp) = Libseccomp::open() else {
        return skip("libseccomp.so.2 cannot be loaded");
    };
    let theirs: BTreeMap<Abi, Names> =
        Abi::all().map(|abi| (abi, libseccomp.names(abi))).filter(|(_, names)| !names.is_empty()).collect();
    assert!(theirs.contains_key(&X86_64) && theirs.len() >= 19, "libseccomp knows {} ABIs", theirs.len());

    // Distributions add calls to a version of libseccomp, so its newest call identifies it: 456 (Debian's 2.5.4), 466
    // (2.6.0), 471 (2.6.1).
    let known = highest_number(theirs[&X86_64].keys().copied());
    let ours = highest_number(X86_64.calls().map(|(number, _)| number));
    assert!(
        (448..=ours).contains(&known),
        "libseccomp knows {known}, the tables end at {ours}: run packaging/syscall-table/generate"
    );
    let all: Vec<Abi> = Abi::all().collect();
    let listed = [
        entry(&all, known + 1..=ours, Missing, &[], "newer than this libseccomp"),
        entry(&[X86_64, X32], 335..=335, Missing, &[456], "uretprobe came late to libseccomp"),
        entry(&[X86_64, X32], 336..=336, Missing, &[456, 466], "uprobe came late to libseccomp"),
        entry(&[X32], 453..=453, Missing, &[456], "map_shadow_stack came to x32 after x86-64"),
        entry(&[Riscv64], 258..=258, Missing, &[456], "riscv_hwprobe came late to libseccomp"),
        entry(&[Parisc64], 140..=140, Extra, &[456, 466], "_llseek is a call of 32-bit ABIs alone"),
        entry(&[Loongarch64], 447..=447, Missing, &[466, 471], "libseccomp lacks memfd_secret here"),
        entry(&[S390], 470..=471, Missing, &[471], "the kernel dropped this ABI before these calls came"),
    ];
    let wrong = find_unexpected(&theirs, known, &listed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libseccomp_agrees_with_scmp_sys_resolver() {
    let program = "scmp_sys_resolver";
    let (Some(libseccomp), true) = (Libseccomp::open(), Command::new(program).arg("-h").output().is_ok()) else {
        return skip("libseccomp.so.2 or scmp_sys_resolver is missing");
    };
    let mut compared = BTreeSet::new();
    for (index, abi) in Abi::all().enumerate() {
        let name = match abi {
            I386 => "x86",
            Sh => "sheb",
            ShEl => "sh",
            abi => abi.name(),
        };
        let names = libseccomp.names(abi);
        // Each number needs a process, so every ABI gets a different sample.
        for number in compared_numbers(abi).skip(index % 7).step_by(7).take(80) {
            let output = Command::new(program).args(["-a", name, &number.to_string()]).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            if names.is_empty() || printed.starts_with("usage") || !output.status.success() {
                break;
            }
            assert_eq!(printed.trim_end(), names.get(&number).map_or("UNKNOWN", String::as_str), "{name} {number}");
            compared.insert(abi);
        }
    }
    assert!(compared.len() >= 18, "{compared:?}");
}

/// The loaded libseccomp: answers as `scmp_sys_resolver` does, without a process per call.
struct Libseccomp {
    /// `seccomp_syscall_resolve_num_arch(3)`.
    resolve: unsafe extern "C" fn(u32, c_int) -> *mut c_char,
}

impl Libseccomp {
    fn open() -> Option<Self> {
        // SAFETY: both names are C strings, and the library stays loaded, so the symbol stays valid.
        let symbol = unsafe {
            let library = libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW);
            if library.is_null() {
                return None;
            }
            libc::dlsym(library, c"seccomp_syscall_resolve_num_arch".as_ptr())
        };
        if symbol.is_null() {
            return None;
        }
        // SAFETY: the function's signature in seccomp.h: char *(uint32_t arch_token, int num).
        let resolve =
            unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(u32, c_int) -> *mut c_char>(symbol) };
        Some(Self { resolve })
    }

    fn names(&self, abi: Abi) -> Names {
        // libseccomp has its own token for x32: SCMP_ARCH_X32 in seccomp.h.
        let token = if abi == X32 { 0x4000_003e } else { abi.arch().0 };
        compared_numbers(abi).filter_map(|number| Some((number, self.name(token, number)?))).collect()
    }

    fn name(&self, token: u32, number: u32) -> Option<String> {
        // SAFETY: the function accepts any two numbers.
        let name = unsafe { (self.resolve)(token, number.cast_signed()) };
        if name.is_null() {
            return None;
        }
        // SAFETY: the pointer is not null, so it is a C string that the caller must free.
        unsafe {
            let owned = CStr::from_ptr(name).to_string_lossy().into_owned();
            libc::free(name.cast());
            Some(owned)
        }
    }
}
