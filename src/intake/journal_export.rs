//! Journal entries with their fields, in any format of `journalctl`.
//!
//! Fields that begin with an underscore are journald's own and a client cannot set them
//! (`systemd.journal-fields(7)`). Where they are printed, only they decide what an entry is and which unit it belongs to.

use super::death_line;
use super::deaths::DeathReader;
use super::envelope::{Envelope, Suspicion, looks_like_record};
use super::failures::{EntryWriter, FailureReader};
use super::journal_entry;
use super::journal_entry::DeathEntry;
use super::journal_fields::JournalFields;
use super::line_prefix::is_audit_tag;
use super::logged_facts::LoggedFacts;
use super::record_sink::{LineKind, RecordSink};
use crate::audit::record::SIGSYS;
use crate::audit::{Malformed, Record, Stamp, parse_fields};
use crate::policy::program_path::is_systemd;
use crate::units::{Manager, Unit};
use std::collections::HashMap;
use std::ffi::CStr;

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
    pub(super) fields: JournalFields,
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

impl JournalExport {
    /// Hands the entry on if it is a record; otherwise remembers the unit of the process that logged it.
    pub(super) fn deliver(&mut self, sink: &mut RecordSink<'_, '_>) -> LineKind {
        self.forget_earlier_boot();
        let message = self.fields.get("MESSAGE");
        let envelope = Envelope::find(message);
        let is_of_root = || self.fields.get("_UID") == b"0";
        match (self.fields.get("_TRANSPORT"), self.fields.get("_AUDIT_TYPE"), envelope) {
            (b"audit", b"1326", _) | (b"audit", b"", Some(_)) => {
                let body = message.strip_prefix(b"SECCOMP ").unwrap_or(message);
                let parsed = parse_fields(body, self.stamp(), self.fields.number("_AUDIT_ID").unwrap_or_default());
                return self.push(parsed.map_err(Suspicion::Malformed), sink);
            }
            // Also what auditd's plugin sends to syslog.
            (transport, _, Some(envelope))
                if is_audit_tag(self.tag())
                    && (matches!(transport, b"kernel" | b"") || (transport == b"syslog" && is_of_root())) =>
            {
                let parsed = envelope.parse().map(|record| match record.stamp {
                    Stamp::Unknown => Record { stamp: self.stamp(), ..record },
                    _ => record,
                });
                return self.push(parsed, sink);
            }
            (b"audit" | b"kernel", ..) => {}
            _ => self.remember_process(),
        }
        if !looks_like_record(self.fields.get("MESSAGE")) {
            return LineKind::Foreign;
        }
        let is_kernel = matches!(self.fields.get("_TRANSPORT"), b"audit" | b"kernel");
        LineKind::Suspect(if is_kernel && is_audit_tag(self.tag()) {
            Suspicion::Malformed(Malformed::Stamp)
        } else {
            Suspicion::OtherProgram(self.tag().to_vec())
        })
    }

    /// Returns the program that logged the entry; an entry without a tag is taken for the kernel's.
    fn tag(&self) -> &[u8] {
        let tag = self.fields.find("SYSLOG_IDENTIFIER").or_else(|| self.fields.find("_TRANSPORT"));
        tag.map_or(b"kernel", Vec::as_slice)
    }

    fn stamp(&self) -> Stamp<'static> {
        let micros = self.fields.number::<i64>("_SOURCE_REALTIME_TIMESTAMP");
        let micros = micros.or_else(|| self.fields.number("__REALTIME_TIMESTAMP"));
        micros.map_or(Stamp::Unknown, |micros| Stamp::Millis(micros / 1000))
    }

    fn push(&self, parsed: Result<Record<'_>, Suspicion>, sink: &mut RecordSink<'_, '_>) -> LineKind {
        let unit = parsed.as_ref().ok().and_then(|record| {
            let process = self.processes.get(&record.pid)?;
            process.is_subject_of(record).then_some(&process.unit)
        });
        sink.push(parsed, unit)
    }

    /// Adds the death that this entry reports: in fields of its manager or of systemd-coredump, or in text. Returns whether
    /// it reports one, or of a unit.
    pub(super) fn add_deaths(&self, deaths: &mut DeathReader) -> bool {
        if matches!(self.fields.get("_TRANSPORT"), b"audit" | b"kernel") {
            return false;
        }
        let id = self.fields.get("MESSAGE_ID");
        let received = self.fields.number("__REALTIME_TIMESTAMP").unwrap_or_default();
        let is_dump = id == journal_entry::COREDUMP.as_bytes();
        if id == journal_entry::EXIT.as_bytes() || (is_dump && self.fields.number("COREDUMP_SIGNAL") == Some(SIGSYS)) {
            let get = |name: &CStr| self.fields.find(name.to_str().ok()?).cloned();
            let death = DeathEntry::parse(received, get);
            let is_death = death.is_some();
            if let Some(death) = death {
                deaths.add_reported(death.unit, death.pid, death.at);
            }
            is_death
        } else if death_line::may_tell(self.fields.get("MESSAGE")) {
            let unit =
                self.fields.number("_PID").and_then(|pid: u32| self.processes.get(&pid)).map(|process| &process.unit);
            let at = self.fields.number::<i64>("__REALTIME_TIMESTAMP").map(|micros| micros / 1000);
            deaths.read_message(self.fields.get("MESSAGE"), at, unit)
        } else {
            false
        }
    }

    /// Adds what an entry of systemd or of the kernel shows about the machine.
    pub(super) fn add_facts(&self, facts: &mut LoggedFacts) {
        let is_of_systemd = || self.fields.get("_PID") == b"1" || is_systemd(self.fields.get("_EXE"));
        match self.fields.get("_TRANSPORT") {
            b"kernel" => facts.add_kernel_message(self.fields.get("MESSAGE")),
            _ if is_of_systemd() => facts.add_systemd_message(self.fields.get("MESSAGE")),
            _ => {}
        }
    }

    /// Adds a failed unit that the entry reports, or what a program says that it could not do.
    pub(super) fn add_failures(&self, failures: &mut FailureReader) {
        let message = self.fields.get("MESSAGE");
        if self.fields.get("_TRANSPORT") == b"audit" {
            let body = message.split_at_checked(message.iter().position(|byte| *byte == b' ').unwrap_or(0));
            let serial = self.fields.number("_AUDIT_ID").unwrap_or_default();
            let (_, body) = body.unwrap_or_default();
            return failures.read_record(self.fields.get("_AUDIT_TYPE"), serial, body);
        }
        let pid = self.fields.number::<u32>("_PID");
        let own = pid.and_then(|pid| self.processes.get(&pid)).map(|process| &process.unit);
        let user = || own.filter(|unit| unit.manager == Manager::System)?.name.as_str().strip_prefix("user@");
        let uid = || user()?.strip_suffix(".service")?.parse().ok();
        let is_of_root = || self.fields.get("_UID") == b"0";
        let writer = match (pid, own) {
            (Some(1), _) if is_of_root() => Some(EntryWriter::Manager(Manager::System)),
            (_, Some(own)) => {
                Some(uid().map_or(EntryWriter::Process(own), |uid| EntryWriter::Manager(Manager::User(uid))))
            }
            // The process that PID 1 forks for a command. It often ends before journald can find its cgroup.
            (_, None) if is_of_root() && self.fields.find("UNIT").is_some() => {
                Some(EntryWriter::Manager(Manager::System))
            }
            _ => None,
        };
        if let Some(writer) = writer.filter(|_| self.fields.get("_TRANSPORT") != b"kernel") {
            failures.read_message(message, writer);
        }
    }

    /// Forgets all processes once the boot changes: another boot gives the same pids to other processes.
    fn forget_earlier_boot(&mut self) {
        if let Some(boot) = self.fields.find("_BOOT_ID")
            && *boot != self.boot
        {
            self.boot.clone_from(boot);
            self.processes.clear();
        }
    }

    /// Remembers the unit that journald read from the cgroup of the process that logged this entry.
    fn remember_process(&mut self) {
        let Some(pid) = self.fields.number("_PID") else { return };
        let text = |name: &str| std::str::from_utf8(self.fields.get(name)).ok();
        let user_unit = text("_SYSTEMD_USER_UNIT").and_then(|name| name.parse().ok());
        let unit = match (user_unit, self.fields.number("_SYSTEMD_OWNER_UID")) {
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
        let exe = self.fields.get("_EXE");
        let exe = exe.strip_suffix(DELETED).unwrap_or(exe);
        let exe = (1..=MAX_EXE).contains(&exe.len()).then(|| exe.into());
        let at = self.fields.number::<i64>("__REALTIME_TIMESTAMP").map(|micros| micros / 1000);
        self.processes.insert(pid, LoggingProcess { unit, exe, at });
    }
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
    fn entry_of_other_format_without_cursor_is_record() {
        let audit = "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n_AUDIT_ID=9\n";
        let text = format!("_BOOT_ID=b\n{audit}MESSAGE=SECCOMP {RECORD}\n\n");
        assert_eq!(units(&text), (vec![None], 1));
        assert_eq!(units(format!("MESSAGE=SECCOMP {RECORD}\nPRIORITY=5\n{audit}")), (vec![None], 1));
        let verbose = text.trim_end().replace('\n', "\n    ");
        assert_eq!(units(format!("Fri 2025-02-21 11:06:48.788123 CET [s=1;i=2]\n    {verbose}")), (vec![None], 2));
        let of_client = format!("MESSAGE=SECCOMP {RECORD}\nPRIORITY=5\n_TRANSPORT=syslog\nSYSLOG_IDENTIFIER=evil\n");
        assert_eq!(units(of_client), (vec![], 1));
    }

    #[test]
    fn json_entries_are_read_as_an_export() {
        let text = |message: &str, more: &str| {
            let message = serde_json::to_string(message).unwrap();
            format!(
                "{{\"__CURSOR\":\"s=1\",\"__REALTIME_TIMESTAMP\":\"5000\",\"_BOOT_ID\":\"b\",{more}\"MESSAGE\":{message}}}"
            )
        };
        let audit = "\"_TRANSPORT\":\"audit\",\"_AUDIT_TYPE\":\"1326\",";
        let denial = text(&format!("SECCOMP {RECORD}"), audit);
        let hello = text("hello", "\"_TRANSPORT\":\"stdout\",\"_PID\":\"7\",\"_SYSTEMD_UNIT\":\"a.service\",");
        let unit = Some("system a.service".to_owned());
        for (before, after) in [("", "\n"), ("\u{1e}", "\n"), ("data: ", "\n\n")] {
            let log = format!("{before}{hello}{after}{before}{denial}{after}");
            assert_eq!(units(log).0, std::slice::from_ref(&unit), "{before:?}");
        }
        let pretty = |text: &str| text.replace('{', "{\n\t").replace(",\"", ",\n\t\"").replace('}', "\n}");
        assert_eq!(units(format!("{}\n{}\n", pretty(&hello), pretty(&denial))).0, [unit]);
        let bytes = format!("SECCOMP {RECORD}").bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
        let of_bytes = text("", audit).replace("\"MESSAGE\":\"\"", &format!("\"MESSAGE\":[{bytes}]"));
        assert_eq!(units(of_bytes).0, [None]);
        let of_client = text(&format!("SECCOMP {RECORD}"), "\"_TRANSPORT\":\"syslog\",\"_AUDIT_TYPE\":\"1326\",");
        assert_eq!(units(of_client).0, [None; 0]);
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
    fn step_of_process_that_ended_before_journald_read_its_cgroup_is_of_its_unit() {
        let failed = |more: &str| {
            let message = "a.service: Failed at step NAMESPACE spawning /a: No such file or directory";
            let text = entry(message, &format!("_TRANSPORT=journal\n_PID=9\n{more}"));
            let summary = read_log(&mut text.as_bytes(), &mut |_, _, _| ()).unwrap();
            summary.failures.units.into_keys().map(|unit| format!("{} {}", unit.manager, unit.name)).collect::<Vec<_>>()
        };
        assert_eq!(failed("_UID=0\nUNIT=a.service\n"), ["system a.service"]);
        assert_eq!(failed("_UID=7\nUNIT=a.service\n"), [""; 0], "not root");
        assert_eq!(failed("_UID=0\n"), [""; 0], "of no unit");
    }

    #[test]
    fn exit_entry_of_manager_counts_as_sigsys_exit() {
        let exits = |more: &str| {
            let id = "98e322203f7a4ed290d09fe03c09fe15";
            let text = format!(
                "__CURSOR=s=1\n_BOOT_ID=b\n_TRANSPORT=journal\nMESSAGE_ID={id}\nEXIT_CODE=killed\nEXIT_STATUS=31\n{more}\n"
            );
            let summary = read_log(&mut text.as_bytes(), &mut |_, _, _| ()).unwrap();
            assert_eq!((summary.lines, summary.foreign + summary.told), (1, 1));
            let units = summary.deaths.unrecorded.into_iter().filter_map(|death| death.unit);
            units.map(|(unit, _)| format!("{} {}", unit.manager, unit.name)).collect::<Vec<_>>()
        };
        assert_eq!(exits("_PID=1\n_UID=0\nUNIT=a.service\n"), ["system a.service"]);
        let user = "_PID=9\n_UID=1000\n_SYSTEMD_UNIT=user@1000.service\nUSER_UNIT=a.service\n";
        assert_eq!(exits(user), ["user:1000 a.service"]);
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
    fn line_of_text_log_that_looks_like_an_entry_hides_no_record_below_it() {
        let record = format!("type=SECCOMP msg=audit(1.002:3): {RECORD}\n");
        for start in ["MESSAGE=x\n", "MESSAGE=x\nEVIL\n", "PRIORITY=6\n \u{20}", "SYSLOG_IDENTIFIER=x\nA=\nEVIL\n"] {
            assert_eq!(units(format!("{start}{record}")).0, [None], "{start:?}");
        }
    }

    #[test]
    fn absurd_length_is_text_below_the_entry() {
        let mut bytes = b"__CURSOR=s=1\nMESSAGE\n".to_vec();
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        bytes.extend_from_slice(b"abc");
        assert_eq!(units(&bytes), (vec![], 3));
    }
}
