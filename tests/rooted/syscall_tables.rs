//! The system call tables, number by number, against two others: the `syscalls` crate and libseccomp.
//!

//! Every disagreement is listed with its reason. An unlisted one fails, and so does a listed one that no longer exists.

use harden_why::syscalls::Abi;
use harden_why::syscalls::Abi::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::RangeInclusive;
use std::process::Command;

type Names = BTreeMap<u32, String>;

/// Entries on which another source disagrees.
struct Disagreement<'a> {
    abis: &'a [Abi],
    /// Numbers without the ABI's base.
    numbers: RangeInclusive<u32>,
    /// Those of them that agree.
    but: &'static [u32],
    theirs: Theirs,
    /// The generations of the other source that have the disagreement; all where empty. Others may have it.
    seen_in: &'static [u32],
    reason: &'static str,
}

/// What the other source says.
#[derive(Clone, Copy)]
enum Theirs {
    /// It has no such number, and our table does.
    Nothing,
    /// It has another name than our table.
    Another(&'static str),
    /// It has a name, and our table has no such number.
    OneTooMany,
}
use Theirs::{Another, Nothing, OneTooMany};

/// What MIPS adds to its numbers; x32's bit 30.
fn base(abi: Abi) -> u32 {
    match abi {
        X32 => 0x4000_0000,
        Mips | MipsEl => 4000,
        Mips64 | MipsEl64 => 5000,
        Mips64N32 | MipsEl64N32 => 6000,
        _ => 0,
    }
}

/// The numbers to compare: the common ones and ARM's private ones.
fn numbers(abi: Abi) -> impl Iterator<Item = u32> {
    (0..1000).chain(0x000f_0000..0x000f_0010).map(move |number| base(abi) + number)
}

/// Returns unlisted differences, and listed entries without a difference.
fn unexpected(theirs: &BTreeMap<Abi, Names>, generation: u32, listed: &[Disagreement<'_>]) -> Vec<String> {
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
                    && !entry.but.contains(&plain)
                    && match entry.theirs {
                        Nothing => pair.1.is_none(),
                        Another(name) => pair.0.is_some() && pair.1 == Some(name),
                        OneTooMany => pair.0.is_none(),
                    }
            });
            match index {
                Some(index) => _ = found.insert((index, abi, plain)),
                None => wrong.push(format!("{} {plain}: {:?} here, {:?} there", abi.name(), pair.0, pair.1)),
            }
        }
    }
    for (index, entry) in listed.iter().enumerate() {
        if !entry.seen_in.is_empty() && !entry.seen_in.contains(&generation) {
            continue;
        }
        for &abi in entry.abis.iter().filter(|abi| theirs.contains_key(abi)) {
            for number in entry.numbers.clone().filter(|number| !entry.but.contains(number)) {
                if !found.contains(&(index, abi, number)) {
                    wrong.push(format!("{} {number}: no longer so: {}", abi.name(), entry.reason));
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
) -> Disagreement<'a> {
    Disagreement { abis, numbers, but: &[], theirs, seen_in, reason }
}

/// The newest number of the calls that all ABIs share.
fn newest(names: impl Iterator<Item = u32>) -> u32 {
    names.filter(|number| *number < 1000).max().unwrap_or_default()
}

const IN_THE_CRATE: &[Abi] =
    &[X86_64, I386, Aarch64, Arm, Ppc, Ppc64, S390X, Riscv32, Riscv64, Loongarch64, Mips, Mips64, Sparc, Sparc64];

#[test]
fn tables_agree_with_the_syscalls_crate() {
    macro_rules! names {
        ($($abi:ident: $module:ident),+) => {
            BTreeMap::from([$(($abi, numbers($abi)
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
    let generic = "the crate keeps what the architecture left out of the generic table";
    let unused = "a number that was never given to a call";
    let listed = [
        entry(IN_THE_CRATE, 470..=472, Nothing, &[], "newer than the crate"),
        entry(&[Sparc, Sparc64], 435..=435, Nothing, &[], "clone3 came late to SPARC"),
        entry(&[I386, Ppc, Ppc64, Mips], 17..=17, Another("r#break"), &[], "a Rust keyword, shown raw"),
        entry(&[Arm], 0xf_0001..=0xf_0006, Nothing, &[], "the private calls of ARM"),
        entry(&[Aarch64, Loongarch64], 79..=79, Another("fstatat"), &[], "the kernel's name is newfstatat"),
        Disagreement {
            but: &[415],
            ..entry(&[Aarch64, Loongarch64], 403..=423, OneTooMany, &[], "calls of 32-bit ABIs alone")
        },
        entry(&[Loongarch64], 38..=38, OneTooMany, &[], generic),
        entry(&[Loongarch64, Riscv32], 163..=164, OneTooMany, &[], generic),
        entry(&[Mips64], 450..=450, Nothing, &[], "the crate lacks set_mempolicy_home_node here"),
        entry(&[Mips], 18..=18, OneTooMany, &[], unused),
        entry(&[Mips], 28..=28, OneTooMany, &[], unused),
        entry(&[Mips], 59..=59, OneTooMany, &[], unused),
        entry(&[Mips], 82..=82, OneTooMany, &[], unused),
        entry(&[Mips], 84..=84, OneTooMany, &[], unused),
        entry(&[Mips], 109..=109, OneTooMany, &[], unused),
        entry(&[Mips], 150..=150, OneTooMany, &[], unused),
        entry(&[Mips], 221..=221, OneTooMany, &[], unused),
        entry(&[Mips64], 177..=177, OneTooMany, &[], unused),
        entry(&[Mips64], 193..=193, OneTooMany, &[], unused),
    ];
    let wrong = unexpected(&theirs, 0, &listed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_agree_with_libseccomp() {
    let Some(libseccomp) = Libseccomp::open() else {
        let why = "libseccomp.so.2 cannot be loaded";
        assert!(std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_none_or(|value| value != "1"), "{why}");
        println!("skipped: {why}");
        return;
    };
    let theirs: BTreeMap<Abi, Names> =
        Abi::all().map(|abi| (abi, libseccomp.names(abi))).filter(|(_, names)| !names.is_empty()).collect();
    assert!(theirs.contains_key(&X86_64) && theirs.len() >= 19, "libseccomp knows {} ABIs", theirs.len());

    // Distributions add calls to a version, so the newest known call identifies a libseccomp.
    // Measured: 456 (Debian's 2.5.4), 466 (2.6.0), 471 (2.6.1).
    let known = newest(theirs[&X86_64].keys().copied());
    let ours = newest(X86_64.calls().map(|(number, _)| number));
    assert!((448..=ours).contains(&known), "libseccomp knows {known}, the tables end at {ours}: generate them anew");
    let all: Vec<Abi> = Abi::all().collect();
    let listed = [
        entry(&all, known + 1..=ours, Nothing, &[], "newer than this libseccomp"),
        entry(&[X86_64, X32], 335..=335, Nothing, &[456], "uretprobe came late to libseccomp"),
        entry(&[X86_64, X32], 336..=336, Nothing, &[456, 466], "uprobe came late to libseccomp"),
        entry(&[X32], 453..=453, Nothing, &[456], "map_shadow_stack came to x32 after x86-64"),
        entry(&[Riscv64], 258..=258, Nothing, &[456], "riscv_hwprobe came late to libseccomp"),
        entry(&[Parisc64], 140..=140, OneTooMany, &[456, 466], "_llseek is a call of 32-bit ABIs alone"),
        entry(&[Loongarch64], 447..=447, Nothing, &[466, 471], "libseccomp lacks memfd_secret here"),
        entry(&[S390], 470..=471, Nothing, &[471], "dropped from the kernel when these came"),
    ];
    let wrong = unexpected(&theirs, known, &listed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn library_answers_as_its_own_program() {
    let program = "scmp_sys_resolver";
    let (Some(libseccomp), true) = (Libseccomp::open(), Command::new(program).arg("-h").output().is_ok()) else {
        let why = "libseccomp.so.2 or scmp_sys_resolver is missing";
        assert!(std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_none_or(|value| value != "1"), "{why}");
        println!("skipped: {why}");
        return;
    };
    let mut asked = BTreeSet::new();
    for (index, abi) in Abi::all().enumerate() {
        let name = match abi {
            I386 => "x86",
            Sh => "sheb",
            ShEl => "sh",
            abi => abi.name(),
        };
        let names = libseccomp.names(abi);
        // One process for each number: some of every ABI, others of the next.
        for number in numbers(abi).skip(index % 7).step_by(7).take(80) {
            let output = Command::new(program).args(["-a", name, &number.to_string()]).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            if names.is_empty() || said.starts_with("usage") || !output.status.success() {
                break;
            }
            assert_eq!(said.trim_end(), names.get(&number).map_or("UNKNOWN", String::as_str), "{name} {number}");
            asked.insert(abi);
        }
    }
    assert!(asked.len() >= 18, "{asked:?}");
}

/// libseccomp, loaded if it is there: answers as `scmp_sys_resolver` does, without a process for each call.
struct Libseccomp {
    /// `seccomp_syscall_resolve_num_arch(3)`.
    resolve: unsafe extern "C" fn(u32, c_int) -> *mut c_char,
}

impl Libseccomp {
    fn open() -> Option<Self> {
        // SAFETY: both names are C strings; the library is never unloaded, so the symbol stays.
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
        // libseccomp has a token of its own for x32: SCMP_ARCH_X32 in seccomp.h.
        let token = if abi == X32 { 0x4000_003e } else { abi.arch().0 };
        numbers(abi).filter_map(|number| Some((number, self.name(token, number)?))).collect()
    }

    fn name(&self, token: u32, number: u32) -> Option<String> {
        // SAFETY: the function takes any two numbers.
        let name = unsafe { (self.resolve)(token, number.cast_signed()) };
        if name.is_null() {
            return None;
        }
        // SAFETY: not null, so a C string, which the caller frees.
        unsafe {
            let owned = CStr::from_ptr(name).to_string_lossy().into_owned();
            libc::free(name.cast());
            Some(owned)
        }
    }
}
