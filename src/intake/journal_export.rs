//! A journal export (`journalctl -o export`): entries of fields, text or binary, with blank lines between.
//!
//! Fields that begin with an underscore are journald's own and a client cannot set them
//! (`systemd.journal-fields(7)`). Only they decide what an entry is and which unit it belongs to.

use super::envelope::find_kernel_event;
use super::journal_entry;
use super::journal_entry::DeathEntry;
use super::lines::{LineReader, LogLine};
use super::logged_facts::LoggedFacts;
use super::record_sink::{LineKind, RecordSink};
use crate::audit::{Malformed, Record, Stamp, parse_fields, parse_record};
use crate::units::{Manager, Unit};
use std::collections::HashMap;
use std::io;

/// How many processes are remembered with their unit. Beyond that, all are forgotten.
const MAX_PROCESSES: usize = 16 << 10;

/// The longest path of an executable that is remembered, in bytes.
const MAX_EXE: usize = 256;

/// How long a pid surely stays with one process, in milliseconds: no machine uses up all other pids in that time.
const PID_REUSE_MS: u64 = 5_000;

/// The kernel appends this to the path of an executable that was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

/// Reads entries, and remembers in which unit journald saw each process.
#[derive(Default)]
pub(super) struct JournalExport {
    fields: HashMap<&'static str, Vec<u8>>,
    boot: Vec<u8>,
    processes: HashMap<u32, LoggingProcess>,
}

/// A process that logged an entry.
struct LoggingProcess {
    unit: Unit,
    /// Its executable; `None` if the path is too long or not logged.
    exe: Option<Box<[u8]>>,
    /// When it logged, in milliseconds since the epoch.
    at: Option<i64>,
}

impl LoggingProcess {
    /// Whether a record is about this process, not about a later one with its pid.
    ///
    /// It is if the executable is the same, or if the record is so close in time that this process executed another.
    fn is_subject_of(&self, record: &Record<'_>) -> bool {
        let is_same = self.exe.as_deref().zip(record.exe).is_some_and(|(own, exe)| *own == *exe.decode());
        let is_near = |at: i64| matches!(record.stamp, Stamp::Millis(made) if made.abs_diff(at) <= PID_REUSE_MS);
        is_same || self.at.is_some_and(is_near)
    }
}

/// The fields that are read; all others are skipped.
const FIELDS: [&str; 18] = [
    "MESSAGE",
    "_TRANSPORT",
    "_AUDIT_TYPE",
    "_AUDIT_ID",
    "_SOURCE_REALTIME_TIMESTAMP",
    "__REALTIME_TIMESTAMP",
    "_PID",
    "_EXE",
    "_BOOT_ID",
    "_SYSTEMD_UNIT",
    "_SYSTEMD_USER_UNIT",
    "_SYSTEMD_OWNER_UID",
    // A manager's entry about a process that exited.
    "MESSAGE_ID",
    "_UID",
    "UNIT",
    "USER_UNIT",
    "EXIT_CODE",
    "EXIT_STATUS",
];

impl JournalExport {
    /// Reads the fields up to the blank line, or the end.
    pub(super) fn read_entry(&mut self, lines: &mut LineReader<'_>) -> io::Result<()> {
        self.fields.clear();
        loop {
            let name = match lines.next_line()? {
                None | Some(LogLine::Whole([])) => return Ok(()),
                Some(LogLine::TooLong) => continue,
                Some(LogLine::Whole(line)) => {
                    if let Some(equals) = memchr::memchr(b'=', line) {
                        if let Some(name) = find_field(&line[..equals]) {
                            self.fields.insert(name, line[equals + 1..].to_vec());
                        }
                        continue;
                    }
                    find_field(line)
                }
            };
            // After a name alone: a little-endian length, that many bytes, and a newline.
            let length = lines.read_bytes(8)?.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            let Some(length) = length else { return Ok(()) };
            let Some(value) = lines.read_bytes(u64::from_le_bytes(length))? else { return Ok(()) };
            if let Some(name) = name {
                self.fields.insert(name, value);
            }
            lines.read_bytes(1)?;
        }
    }

    /// Hands the entry on if it is a record; otherwise remembers the unit of the process that logged it.
    pub(super) fn deliver(&mut self, sink: &mut RecordSink<'_, '_>) -> LineKind {
        self.forget_earlier_boot();
        let message = self.get("MESSAGE");
        match self.get("_TRANSPORT") {
            b"audit" if self.get("_AUDIT_TYPE") == b"1326" => {
                let stamp = self
                    .number::<i64>("_SOURCE_REALTIME_TIMESTAMP")
                    .or_else(|| self.number("__REALTIME_TIMESTAMP"))
                    .map_or(Stamp::Unknown, |micros| Stamp::Millis(micros / 1000));
                let body = message.strip_prefix(b"SECCOMP ").unwrap_or(message);
                let parsed = parse_fields(body, stamp, self.number("_AUDIT_ID").unwrap_or_default());
                self.push(parsed, sink)
            }
            b"kernel" => match find_kernel_event(message) {
                Some(event) => self.push(parse_record(event), sink),
                None => LineKind::Foreign,
            },
            _ => {
                self.remember_process();
                LineKind::Foreign
            }
        }
    }

    fn push(&self, parsed: Result<Record<'_>, Malformed>, sink: &mut RecordSink<'_, '_>) -> LineKind {
        let unit = parsed.as_ref().ok().and_then(|record| {
            let process = self.processes.get(&record.pid)?;
            process.is_subject_of(record).then_some(&process.unit)
        });
        sink.push(parsed, unit)
    }

    /// Returns the unit that lost a process to SIGSYS, if this is its manager's entry about that.
    pub(super) fn sigsys_exit(&self) -> Option<Unit> {
        if self.get("MESSAGE_ID") != journal_entry::EXIT.as_bytes() {
            return None;
        }
        DeathEntry::parse(0, |name| self.fields.get(name.to_str().ok()?).cloned()).map(|entry| entry.unit)
    }

    /// Adds what an entry of systemd or of the kernel shows about the machine.
    pub(super) fn add_facts(&self, facts: &mut LoggedFacts) {
        let is_systemd = || self.get("_PID") == b"1" || self.get("_EXE").ends_with(b"/systemd");
        match self.get("_TRANSPORT") {
            b"kernel" => facts.add_kernel_message(self.get("MESSAGE")),
            _ if is_systemd() => facts.add_systemd_message(self.get("MESSAGE")),
            _ => {}
        }
    }

    /// Forgets all processes once the boot changes: another boot gives the same pids to other processes.
    fn forget_earlier_boot(&mut self) {
        if let Some(boot) = self.fields.remove("_BOOT_ID")
            && boot != self.boot
        {
            self.boot = boot;
            self.processes.clear();
        }
    }

    /// Remembers the unit that journald read from the cgroup of the process that logged this entry.
    fn remember_process(&mut self) {
        let Some(pid) = self.number("_PID") else { return };
        let text = |name: &str| std::str::from_utf8(self.get(name)).ok();
        let user_unit = text("_SYSTEMD_USER_UNIT").and_then(|name| name.parse().ok());
        let unit = match (user_unit, self.number("_SYSTEMD_OWNER_UID")) {
            (Some(name), Some(uid)) => Some(Unit { manager: Manager::User(uid), name }),
            (Some(_), None) => None,
            (None, _) => text("_SYSTEMD_UNIT")
                .and_then(|name| name.parse().ok())
                .map(|name| Unit { manager: Manager::System, name }),
        };
        let Some(unit) = unit else { return };
        if self.processes.len() >= MAX_PROCESSES {
            self.processes.clear();
        }
        let exe = self.get("_EXE");
        let exe = exe.strip_suffix(DELETED).unwrap_or(exe);
        let exe = (1..=MAX_EXE).contains(&exe.len()).then(|| exe.into());
        let at = self.number::<i64>("__REALTIME_TIMESTAMP").map(|micros| micros / 1000);
        self.processes.insert(pid, LoggingProcess { unit, exe, at });
    }

    fn get(&self, name: &str) -> &[u8] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        std::str::from_utf8(self.get(name)).ok()?.parse().ok()
    }
}

/// The start of every entry: journald writes the cursor first.
pub(super) const FIRST_FIELD: &[u8] = b"__CURSOR=";

fn find_field(name: &[u8]) -> Option<&'static str> {
    FIELDS.into_iter().find(|field| field.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use crate::intake::log_file::read_log;

    const RECORD: &str = r#"auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

    fn entry(message: &str, more: &str) -> String {
        format!("__CURSOR=s=1\n__REALTIME_TIMESTAMP=5000\n_BOOT_ID=b\n{more}MESSAGE={message}\n\n")
    }

    fn units(text: impl AsRef<[u8]>) -> (Vec<Option<String>>, u64) {
        let mut units = Vec::new();
        let summary = read_log(&mut text.as_ref(), &mut |record, unit, _| {
            assert_eq!(record.pid, 7);
            units.push(unit.map(|unit| format!("{} {}", unit.manager, unit.name)));
        })
        .unwrap();
        assert_eq!(summary.malformed, 0, "{:?}", summary.complaints);
        (units, summary.lines)
    }

    #[test]
    fn entry_of_audit_transport_is_record() {
        let text = entry(&format!("SECCOMP {RECORD}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n_AUDIT_ID=9\n");
        assert_eq!(units(text), (vec![None], 1));
    }

    #[test]
    fn entry_of_kernel_transport_is_record() {
        let text = entry(&format!("audit: type=1326 audit(1.002:3): {RECORD}"), "_TRANSPORT=kernel\n");
        assert_eq!(units(text), (vec![None], 1));
    }

    #[test]
    fn entry_of_client_with_audit_fields_is_no_record() {
        let text = entry(&format!("SECCOMP {RECORD}"), "_TRANSPORT=syslog\n_AUDIT_TYPE=1326\n");
        assert_eq!(units(text), (vec![], 1));
    }

    #[test]
    fn record_after_entry_of_same_process_gets_its_unit() {
        let denial = entry(&format!("SECCOMP {RECORD}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n");
        let hello = entry("hello", "_TRANSPORT=stdout\n_PID=7\n_SYSTEMD_UNIT=a.service\n");
        assert_eq!(units(format!("{hello}{denial}")).0, [Some("system a.service".into())]);
        let user = "_PID=7\n_SYSTEMD_UNIT=user@1000.service\n_SYSTEMD_USER_UNIT=a.service\n_SYSTEMD_OWNER_UID=1000\n";
        let hello = entry("hello", user);
        assert_eq!(units(format!("{hello}{denial}")).0, [Some("user:1000 a.service".into())]);
    }

    #[test]
    fn record_of_other_program_with_reused_pid_gets_no_unit() {
        let denial = entry(&format!("SECCOMP {RECORD}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n");
        let days_later = denial.replace("__REALTIME_TIMESTAMP=5000", "__REALTIME_TIMESTAMP=432000000000");
        let logged = |exe: &str| entry("hello", &format!("_PID=7\n_EXE={exe}\n_SYSTEMD_UNIT=a.service\n"));
        let unit = |exe: &str, denial: &str| units(format!("{}{denial}", logged(exe))).0.remove(0);
        assert_eq!(unit("/b", &days_later), None);
        assert_eq!(unit("/a", &days_later), Some("system a.service".into()));
        assert_eq!(unit("/a (deleted)", &days_later), Some("system a.service".into()));
        assert_eq!(unit("/b", &denial), Some("system a.service".into()), "the process may have executed another since");
        assert_eq!(unit(&format!("/{}", "a".repeat(300)), &days_later), None, "the path is too long");
    }

    #[test]
    fn record_in_other_boot_gets_no_unit() {
        let hello = entry("hello", "_PID=7\n_SYSTEMD_UNIT=a.service\n").replace("_BOOT_ID=b", "_BOOT_ID=c");
        let denial = entry(&format!("SECCOMP {RECORD}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n");
        assert_eq!(units(format!("{hello}{denial}")).0, [None]);
    }

    #[test]
    fn exit_entry_of_manager_counts_as_sigsys_exit() {
        let exits = |more: &str| {
            let id = "98e322203f7a4ed290d09fe03c09fe15";
            let text = format!(
                "__CURSOR=s=1\n_BOOT_ID=b\n_TRANSPORT=journal\nMESSAGE_ID={id}\nEXIT_CODE=killed\nEXIT_STATUS=31\n{more}\n"
            );
            let summary = read_log(&mut text.as_bytes(), &mut |_, _, _| ()).unwrap();
            assert_eq!((summary.lines, summary.foreign), (1, 1));
            summary
                .sigsys_exits
                .units
                .iter()
                .map(|(unit, count)| format!("{} {} {count}", unit.manager, unit.name))
                .collect::<Vec<_>>()
        };
        assert_eq!(exits("_PID=1\n_UID=0\nUNIT=a.service\n"), ["system a.service 1"]);
        let user = "_PID=9\n_UID=1000\n_SYSTEMD_UNIT=user@1000.service\nUSER_UNIT=a.service\n";
        assert_eq!(exits(user), ["user:1000 a.service 1"]);
        assert_eq!(exits("_PID=9\n_UID=0\nUNIT=a.service\n"), [""; 0], "not PID 1");
    }

    #[test]
    fn binary_field_that_imitates_entry_is_skipped_by_its_length() {
        let mut bytes = b"__CURSOR=s=1\n_TRANSPORT=audit\nEVIL\n".to_vec();
        let evil = b"\n\nMESSAGE=x\n__CURSOR=";
        bytes.extend_from_slice(&(evil.len() as u64).to_le_bytes());
        bytes.extend_from_slice(evil);
        let message = format!("SECCOMP {RECORD}");
        bytes.extend_from_slice(b"\n_AUDIT_TYPE=1326\nMESSAGE\n");
        bytes.extend_from_slice(&(message.len() as u64).to_le_bytes());
        bytes.extend_from_slice(message.as_bytes());
        bytes.extend_from_slice(b"\n\n");
        assert_eq!(units(&bytes), (vec![None], 1));
        for cut in 0..bytes.len() {
            read_log(&mut &bytes[..cut], &mut |_, _, _| ()).unwrap();
        }
    }

    #[test]
    fn absurd_length_ends_with_input() {
        let mut bytes = b"__CURSOR=s=1\nMESSAGE\n".to_vec();
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        bytes.extend_from_slice(b"abc");
        assert_eq!(units(&bytes), (vec![], 1));
    }
}
