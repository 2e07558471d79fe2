//! Calls that systemd's filters judge by an argument, and what such an argument asks for.

use super::access::Access;
use crate::policy::Namespaces;

/// What the argument holds that filters decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArgumentKind {
    /// A socket address family.
    Family,
    /// Flags for new namespaces, among others.
    NewNamespaces,
    /// The type of an existing namespace, or 0 for any.
    Namespace,
    /// The protection of new memory.
    NewProtection,
    /// The new protection of memory.
    Protection,
    /// Flags for shared memory.
    SharedMemory,
    /// The mode of a file.
    Mode,
    /// The mode of a new file, after flags that may ask for one.
    NewMode,
    /// A scheduling policy.
    Scheduling,
    /// An execution domain.
    Personality,
}

use ArgumentKind::{
    Family, Mode, Namespace, NewMode, NewNamespaces, NewProtection, Personality, Protection, Scheduling, SharedMemory,
};

/// The calls, with the index of the argument (`seccomp-util.c`).
const CALLS: [(&str, u8, ArgumentKind); 21] = [
    ("chmod", 1, Mode),
    ("clone", 0, NewNamespaces),
    ("creat", 1, Mode),
    ("fchmod", 1, Mode),
    ("fchmodat", 2, Mode),
    ("fchmodat2", 2, Mode),
    ("mkdir", 1, Mode),
    ("mkdirat", 2, Mode),
    ("mknod", 1, Mode),
    ("mknodat", 2, Mode),
    ("mmap", 2, NewProtection),
    ("mprotect", 2, Protection),
    ("open", 2, NewMode),
    ("openat", 3, NewMode),
    ("personality", 0, Personality),
    ("pkey_mprotect", 2, Protection),
    ("sched_setscheduler", 1, Scheduling),
    ("setns", 1, Namespace),
    ("shmat", 2, SharedMemory),
    ("socket", 0, Family),
    ("unshare", 0, NewNamespaces),
];

/// `SHM_EXEC` (`linux/shm.h`).
const SHM_EXEC: u32 = 0o100_000;
/// The set-user-ID and the set-group-ID bit.
const SET_ID: u32 = 0o6000;
const WRITE: u32 = libc::PROT_WRITE.cast_unsigned();
const EXECUTE: u32 = libc::PROT_EXEC.cast_unsigned();

/// Where a call has the argument that filters decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArgumentPlace {
    /// Its index.
    pub(crate) index: u8,
    /// The bits that filters look at.
    pub(crate) mask: u32,
    /// Whether a filter can deny the argument 0.
    pub(crate) includes_zero: bool,
    /// Whether filters look at it only if the argument before it has `O_CREAT`. Else it can hold anything.
    pub(crate) if_creating: bool,
}

impl ArgumentPlace {
    /// Finds the argument of a call.
    pub(crate) fn find(call: &str) -> Option<Self> {
        let (index, kind) = find(call)?;
        let mask = match kind {
            Family | Namespace | Scheduling | Personality => u32::MAX,
            NewNamespaces => Namespaces::all_flags(),
            NewProtection => WRITE | EXECUTE,
            Protection => EXECUTE,
            SharedMemory => SHM_EXEC,
            Mode | NewMode => SET_ID,
        };
        Some(Self { index, mask, includes_zero: kind == Namespace, if_creating: kind == NewMode })
    }
}

/// What is known of the argument by which filters judge a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum KnownArgument {
    /// Nothing is known, or the call has none.
    #[default]
    Unknown,
    /// It asks for nothing that a filter of systemd's denies.
    Harmless,
    /// It asks for this, which a filter may deny.
    Asks(Access),
}

impl KnownArgument {
    /// Returns what a call asks for by an argument, which holds the bits that filters look at.
    pub(crate) fn new(call: &str, argument: u32) -> Self {
        Access::from_argument(call, argument).map_or(Self::Harmless, Self::Asks)
    }
}

impl Access {
    /// Returns what a call asks for by an argument, which holds the bits that filters look at; `None` if it asks for
    /// nothing that a filter of systemd's denies.
    pub(crate) fn from_argument(call: &str, argument: u32) -> Option<Self> {
        let (_, kind) = find(call)?;
        match kind {
            Family => u16::try_from(argument).ok().map(Self::AddressFamily),
            NewNamespaces => (argument != 0).then_some(Self::Namespaces(argument)),
            Namespace => {
                let known = argument & Namespaces::all_flags();
                (known != 0 || argument == 0).then_some(Self::Namespaces(known))
            }
            NewProtection => (argument & WRITE != 0 && argument & EXECUTE != 0).then_some(Self::ExecutableMemory),
            Protection | SharedMemory => (argument != 0).then_some(Self::ExecutableMemory),
            Mode | NewMode => (argument != 0).then_some(Self::SetIdMode),
            Scheduling => Some(Self::Scheduling(argument)),
            Personality => Some(Self::Personality(argument)),
        }
    }
}

fn find(call: &str) -> Option<(u8, ArgumentKind)> {
    CALLS.iter().find(|(known, ..)| *known == call).map(|(_, index, kind)| (*index, *kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Directive;
    use crate::policy::directive::Targets;

    #[test]
    fn argument_says_what_a_call_asks_for() {
        let of = Access::from_argument;
        assert_eq!(of("socket", 16), Some(Access::AddressFamily(16)));
        assert_eq!(of("socket", 0x1_0010), None, "no family");
        assert_eq!(of("unshare", 0x1000_0000), Some(Access::Namespaces(0x1000_0000)));
        assert_eq!([of("unshare", 0), of("clone", 0)], [None, None]);
        assert_eq!(of("setns", 0), Some(Access::Namespaces(0)), "any type");
        assert_eq!(of("setns", 0x80), None, "a time namespace, which older versions do not restrict");
        assert_eq!([of("mmap", 4), of("mmap", 2)], [None, None]);
        assert_eq!(
            [of("mmap", 6), of("mprotect", 4)],
            [Some(Access::ExecutableMemory), Some(Access::ExecutableMemory)]
        );
        assert_eq!(of("chmod", 0o4000), Some(Access::SetIdMode));
        assert_eq!(of("sched_setscheduler", 1), Some(Access::Scheduling(1)));
        assert_eq!(of("personality", 0x0002_0000), Some(Access::Personality(0x0002_0000)));
        assert_eq!(of("getpid", 1), None);
    }

    #[test]
    fn every_rule_that_looks_at_an_argument_has_one_here() {
        let rules = Directive::rules().filter(|(_, rule)| rule.argument.is_some());
        let calls = rules.flat_map(|(_, rule)| match rule.targets {
            Targets::Calls(calls) => calls.iter().copied(),
            Targets::Group(group) => panic!("{group} has arguments"),
        });
        // This call is of the 32-bit ABIs.
        let missing: Vec<&str> = calls.filter(|call| *call != "mmap2" && find(call).is_none()).collect();
        assert_eq!(missing, [""; 0]);
        assert!(CALLS.is_sorted_by_key(|(call, ..)| *call));
    }
}
