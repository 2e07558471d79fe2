//! What a log shows about the machine that wrote it: its native ABI, its systemd, its kernel, and names that its
//! systemd does not know.
//!
//! Any program that can write to the log can forge such lines. They change only how the log itself is explained.

use crate::audit::{ArchField, Record};
use crate::syscalls::{Abi, Arch, CallNames};
use memchr::memmem;
use std::collections::{BTreeMap, BTreeSet};

/// Words in each line about the machine: of systemd at its start (`main.c`), of systemd about a word that it ignores
/// (`seccomp_parse_syscall_filter`), and of the kernel at its start (`linux_banner`).
pub(super) const WORDS: [&[u8]; 3] = [b" running in ", b", ignoring", b"Linux version "];

/// The limit of unknown names that are kept.
const MAX_NAMES: usize = 256;

/// The longest name or version that is kept, in bytes.
const MAX_TEXT: usize = 64;

/// The facts about the machine that wrote a log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LoggedFacts {
    /// The version of systemd that started last.
    pub(crate) systemd: Option<Box<str>>,
    /// Major and minor version of the kernel that started last.
    pub(crate) kernel: Option<(u32, u32)>,
    /// Calls and groups in unit files that systemd ignored, because it or its libseccomp does not know them.
    pub(crate) unknown_names: CallNames,
    /// By the ABI of recorded calls: the native ABIs of the kernels that recorded them.
    natives: BTreeMap<Abi, BTreeSet<Abi>>,
}

impl LoggedFacts {
    /// Notes the native ABI of the kernel that made a record.
    pub(super) fn add_record(&mut self, record: &Record<'_>) {
        let arch = match record.arch {
            ArchField::Token(token) => Some(Arch(token)),
            ArchField::Name(name) => Arch::from_name(name),
        };
        let Some(abi) = arch.and_then(|arch| arch.abi(None)) else { return };
        if let Some(native) = abi.native_of_kernel(record.compat) {
            self.natives.entry(abi).or_default().insert(native);
        }
    }

    /// Returns the native ABI of the kernel that recorded calls of these ABIs; without one of them, that of the whole
    /// log if it is a single one.
    #[must_use]
    pub(crate) fn native_abi(&self, abis: &BTreeSet<Abi>) -> Option<Abi> {
        let of_token = |abi: &Abi| abi.arch().abi(None).and_then(|abi| self.natives.get(&abi));
        let own: BTreeSet<Abi> = abis.iter().filter_map(of_token).flatten().copied().collect();
        let all: BTreeSet<Abi> = self.natives.values().flatten().copied().collect();
        let found = if own.is_empty() { all } else { own };
        // With records of a 32-bit and of a 64-bit kernel, the latter has both ABIs.
        let is_wide =
            |abi: &&Abi| found.iter().any(|other| other != *abi && other.native_of_kernel(Some(true)) == Some(**abi));
        found.iter().find(is_wide).or_else(|| found.iter().next().filter(|_| found.len() == 1)).copied()
    }

    /// Reads a line of a log, with whatever stands before its message.
    pub(super) fn add_line(&mut self, line: &[u8]) {
        if let Some(message) = find_message(line, b" systemd[") {
            self.add_systemd_message(message);
        } else if let Some(at) = memmem::find(line, b"Linux version ")
            && is_kernel_prefix(&line[..at])
        {
            self.add_kernel_message(&line[at..]);
        }
    }

    /// Reads a message of systemd.
    pub(super) fn add_systemd_message(&mut self, message: &[u8]) {
        let Ok(message) = str::from_utf8(message) else { return };
        let message = message.trim_end();
        if let Some(rest) = message.strip_prefix("systemd ")
            && let Some((version, _)) = rest.split_once(" running in ")
        {
            let version = version.strip_prefix('v').unwrap_or(version);
            if version.starts_with(|c: char| c.is_ascii_digit()) && is_plain(version) {
                self.systemd = Some(version.into());
            }
            return;
        }
        let named = ["Failed to parse system call, ignoring: ", "Unknown system call group, ignoring: "]
            .iter()
            .find_map(|words| message.split_once(words).map(|(_, name)| name));
        let called = || {
            let name = message.strip_prefix("System call ")?;
            [" is not known, ignoring.", " is not known!, ignoring."].iter().find_map(|words| name.strip_suffix(words))
        };
        if let Some(name) = named.or_else(called)
            && is_plain(name)
            && self.unknown_names.len() < MAX_NAMES
        {
            self.unknown_names.insert(name.into());
        }
    }

    /// Reads a message of the kernel.
    pub(super) fn add_kernel_message(&mut self, message: &[u8]) {
        let release = message.strip_prefix(b"Linux version ").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let parse = |release: &[u8]| {
            let (major, rest) = str::from_utf8(release).ok()?.split_once('.')?;
            let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        self.kernel = release.and_then(parse).or(self.kernel);
    }
}

/// Whether a text is short and can be a name or a version.
fn is_plain(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"@_-.+~:^".contains(&byte);
    !text.is_empty() && text.len() <= MAX_TEXT && text.bytes().all(is_part)
}

/// Returns the message after `TAG[PID]: `, unless another program's tag stands in front.
fn find_message<'a>(line: &'a [u8], tag: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(line, tag)?;
    if memmem::find(&line[..=at], b": ").is_some() {
        return None;
    }
    let rest = &line[at + tag.len()..];
    let end = memmem::find(rest, b"]: ")?;
    rest[..end].iter().all(u8::is_ascii_digit).then(|| &rest[end + 3..])
}

/// Whether this may stand before a message of the kernel: nothing, the kernel's time, or a syslog prefix with its tag.
fn is_kernel_prefix(prefix: &[u8]) -> bool {
    let prefix = prefix.trim_ascii_end();
    if prefix.is_empty() || prefix.ends_with(b"]") && memmem::find(prefix, b": ").is_none() {
        return true;
    }
    memmem::find(prefix, b" kernel:").is_some_and(|at| memmem::find(&prefix[..at], b": ").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> LoggedFacts {
        let mut facts = LoggedFacts::default();
        for line in lines {
            facts.add_line(line.as_bytes());
        }
        facts
    }

    #[test]
    fn lines_of_systemd_and_kernel_tell_versions_and_unknown_names() {
        let facts = read(&[
            "Nov 23 22:01:02 web systemd[1]: systemd 245.4-4ubuntu3.22 running in system mode. (+PAM)",
            "[    0.000000] Linux version 5.10.0-23-arm64 (builder@example) #1 SMP",
            "Nov 23 22:01:02 systemd[1]: /usr/lib/systemd/system/a.service:8: Failed to parse system call, ignoring: mseal\r",
            "Nov 23 22:01:02 web systemd[812]: /etc/b.service:2: Unknown system call group, ignoring: @pkey",
            "Nov 23 22:01:02 web systemd[1]: System call statmount is not known, ignoring.",
        ]);
        assert_eq!(facts.systemd.as_deref(), Some("245.4-4ubuntu3.22"));
        assert_eq!(facts.kernel, Some((5, 10)));
        assert_eq!(facts.unknown_names.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["@pkey", "mseal", "statmount"]);
        assert_eq!(
            read(&["Nov 2 2:01:02 web systemd[1]: systemd v249.11 running in user mode"]).systemd.as_deref(),
            Some("249.11")
        );
        assert_eq!(read(&["Nov 23 22:01:02 web kernel: Linux version 4.9.337 (x@y)"]).kernel, Some((4, 9)));
    }

    #[test]
    fn line_of_another_program_tells_nothing() {
        let facts = read(&[
            "Nov 23 22:01:02 web evil[9]: systemd[1]: systemd 12 running in system mode",
            "Nov 23 22:01:02 web evil: x systemd[1]: /a:1: Failed to parse system call, ignoring: read",
            "Nov 23 22:01:02 web evil: Linux version 2.6.1",
            "Nov 23 22:01:02 web systemd[1]: systemd \u{1b}[2J running in system mode",
            "Nov 23 22:01:02 web systemd[1]: /a:1: Failed to parse system call, ignoring: so \u{1b}",
        ]);
        assert_eq!(facts, LoggedFacts::default());
    }

    #[test]
    fn native_abi_is_that_of_the_kernels_that_recorded_the_calls() {
        let mut facts = LoggedFacts::default();
        let line = |arch: &str, compat: &str| {
            format!(
                "audit(1.002:3): pid=7 comm=\"a\" exe=\"/a\" sig=31 arch={arch} syscall=41 {compat} ip=0x7f code=0x80000000"
            )
        };
        let mut add = |arch: &str, compat: &str| {
            facts.add_record(&crate::audit::parse_record(line(arch, compat).as_bytes()).unwrap());
            facts.clone()
        };
        let native = |facts: &LoggedFacts, abis: &[Abi]| facts.native_abi(&abis.iter().copied().collect());
        assert_eq!(native(&add("40000028", ""), &[Abi::Arm]), None);
        let of_arm = add("40000028", "compat=0");
        assert_eq!(native(&of_arm, &[Abi::Arm]), Some(Abi::Arm));
        assert_eq!(native(&of_arm, &[]), Some(Abi::Arm));
        let of_two = add("c000003e", "compat=0");
        assert_eq!((native(&of_two, &[Abi::X32]), native(&of_two, &[])), (Some(Abi::X86_64), None));
        let of_both_arms = add("40000028", "compat=1");
        assert_eq!(native(&of_both_arms, &[Abi::Arm]), Some(Abi::Aarch64));
    }
}
