//! A journal export (`journalctl -o export`): entries of fields, text or binary, with blank lines between.
//!
//! Fields that begin with an underscore are journald's own and cannot be set by a client
//! (`systemd.journal-fields(7)`), so only those decide what an entry is and whose it was.

use super::journal_entry;
use super::lines::{Line, Lines};
use super::log_file::{Outcome, Taker, kernel_line};
use crate::audit::{Malformed, Record, Stamp, parse_fields, parse_record};
use crate::units::{Manager, Unit};
use std::collections::HashMap;
use std::io;

/// How many processes are remembered with their unit; then it starts over.
const MOST_PROCESSES: usize = 16 << 10;

/// How long an executable's path is at most to be remembered, in bytes.
const MOST_EXE: usize = 256;

/// Within what time nobody uses up all other pids, in milliseconds.
const ONE_MOMENT_MS: u64 = 5_000;

/// What the kernel appends to the path of an executable that was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

/// Reads entries, and remembers which unit journald saw a process in.
#[derive(Default)]
pub(super) struct Export {
    fields: HashMap<&'static str, Vec<u8>>,
    boot: Vec<u8>,
    writers: HashMap<u32, Writer>,
}

/// Whoever wrote an entry.
struct Writer {
    unit: Unit,
    /// Its executable; `None` where that is too long to be kept, or not told.
    exe: Option<Box<[u8]>>,
    /// When, in milliseconds since the epoch.
    at: Option<i64>,
}

impl Writer {
    /// Whether a record is of the same process, and not of a later one with its pid: of the same program, or of the same
    /// moment, in which it can have executed another.
    fn made(&self, record: &Record<'_>) -> bool {
        let is_same = self.exe.as_deref().zip(record.exe).is_some_and(|(own, exe)| *own == *exe.decode());
        let is_near = |at: i64| matches!(record.stamp, Stamp::Millis(made) if made.abs_diff(at) <= ONE_MOMENT_MS);
        is_same || self.at.is_some_and(is_near)
    }
}

/// The fields that are kept.
const KEPT: [&str; 18] = [
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
    // What a manager tells of a process that ended.
    "MESSAGE_ID",
    "_UID",
    "UNIT",
    "USER_UNIT",
    "EXIT_CODE",
    "EXIT_STATUS",
];

impl Export {
    /// Reads the fields up to the blank line, or the end.
    pub(super) fn read_entry(&mut self, lines: &mut Lines<'_>) -> io::Result<()> {
        self.fields.clear();
        loop {
            let name = match lines.next()? {
                None | Some(Line::Whole([])) => return Ok(()),
                Some(Line::TooLong) => continue,
                Some(Line::Whole(line)) => {
                    if let Some(equals) = memchr::memchr(b'=', line) {
                        if let Some(name) = kept(&line[..equals]) {
                            self.fields.insert(name, line[equals + 1..].to_vec());
                        }
                        continue;
                    }
                    kept(line)
                }
            };
            // A name alone: a little-endian length, that many bytes, and a newline.
            let Some(length) = lines.bytes(8)?.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) else { return Ok(()) };
            let Some(value) = lines.bytes(u64::from_le_bytes(length))? else { return Ok(()) };
            if let Some(name) = name {
                self.fields.insert(name, value);
            }
            lines.bytes(1)?;
        }
    }

    /// Hands the entry on if it is a record; otherwise learns whose process wrote it.
    pub(super) fn finish(&mut self, taker: &mut Taker<'_, '_>) -> Outcome {
        self.notice_boot();
        let message = self.get("MESSAGE");
        match self.get("_TRANSPORT") {
            b"audit" if self.get("_AUDIT_TYPE") == b"1326" => {
                let stamp = self
                    .number::<i64>("_SOURCE_REALTIME_TIMESTAMP")
                    .or_else(|| self.number("__REALTIME_TIMESTAMP"))
                    .map_or(Stamp::Unknown, |micros| Stamp::Millis(micros / 1000));
                let body = message.strip_prefix(b"SECCOMP ").unwrap_or(message);
                let parsed = parse_fields(body, stamp, self.number("_AUDIT_ID").unwrap_or_default());
                self.with_unit(parsed, taker)
            }
            b"kernel" => match kernel_line(message) {
                Some(event) => self.with_unit(parse_record(event), taker),
                None => Outcome::Foreign,
            },
            _ => {
                self.learn();
                Outcome::Foreign
            }
        }
    }

    fn with_unit(&self, parsed: Result<Record<'_>, Malformed>, taker: &mut Taker<'_, '_>) -> Outcome {
        let writer = parsed.as_ref().ok().and_then(|record| {
            let writer = self.writers.get(&record.pid)?;
            writer.made(record).then_some(&writer.unit)
        });
        taker.take(parsed, writer)
    }

    /// The unit of which a process died of SIGSYS, if its manager says so in this entry.
    pub(super) fn death(&self) -> Option<Unit> {
        if self.get("MESSAGE_ID") != journal_entry::EXIT.as_bytes() {
            return None;
        }
        journal_entry::read(0, |name| self.fields.get(name.to_str().ok()?).cloned()).map(|entry| entry.unit)
    }

    /// A pid means nothing in another boot.
    fn notice_boot(&mut self) {
        if let Some(boot) = self.fields.remove("_BOOT_ID")
            && boot != self.boot
        {
            self.boot = boot;
            self.writers.clear();
        }
    }

    /// Remembers the unit that journald read from the cgroup of the process that logged this.
    fn learn(&mut self) {
        let Some(pid) = self.number("_PID") else { return };
        let text = |name: &str| std::str::from_utf8(self.get(name)).ok();
        let user = text("_SYSTEMD_USER_UNIT").and_then(|name| name.parse().ok());
        let unit = match (user, self.number("_SYSTEMD_OWNER_UID")) {
            (Some(name), Some(uid)) => Some(Unit { manager: Manager::User(uid), name }),
            (Some(_), None) => None,
            (None, _) => text("_SYSTEMD_UNIT")
                .and_then(|name| name.parse().ok())
                .map(|name| Unit { manager: Manager::System, name }),
        };
        let Some(unit) = unit else { return };
        if self.writers.len() >= MOST_PROCESSES {
            self.writers.clear();
        }
        let exe = self.get("_EXE");
        let exe = exe.strip_suffix(DELETED).unwrap_or(exe);
        let exe = (1..=MOST_EXE).contains(&exe.len()).then(|| exe.into());
        let at = self.number::<i64>("__REALTIME_TIMESTAMP").map(|micros| micros / 1000);
        self.writers.insert(pid, Writer { unit, exe, at });
    }

    fn get(&self, name: &str) -> &[u8] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        std::str::from_utf8(self.get(name)).ok()?.parse().ok()
    }
}

/// What every entry begins with: journald always writes the cursor first.
pub(super) const FIRST_FIELD: &[u8] = b"__CURSOR=";

/// Whether a line is the first of an entry.
pub(super) fn begins_entry(line: &[u8]) -> bool {
    line.starts_with(FIRST_FIELD)
}

fn kept(name: &[u8]) -> Option<&'static str> {
    KEPT.into_iter().find(|kept| kept.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use crate::intake::log_file::read;

    const FIELDS: &str = r#"auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

    fn record(message: &str, more: &str) -> String {
        format!("__CURSOR=s=1\n__REALTIME_TIMESTAMP=5000\n_BOOT_ID=b\n{more}MESSAGE={message}\n\n")
    }

    fn units(text: impl AsRef<[u8]>) -> (Vec<Option<String>>, u64) {
        let mut units = Vec::new();
        let tally = read(&mut text.as_ref(), &mut |record, unit, _| {
            assert_eq!(record.pid, 7);
            units.push(unit.map(|unit| format!("{} {}", unit.manager, unit.name)));
        })
        .unwrap();
        assert_eq!(tally.malformed, 0, "{:?}", tally.complaints);
        (units, tally.lines)
    }

    #[test]
    fn an_audit_entry_is_a_record() {
        let text = record(&format!("SECCOMP {FIELDS}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n_AUDIT_ID=9\n");
        assert_eq!(units(text), (vec![None], 1));
    }

    #[test]
    fn a_kernel_entry_is_a_record() {
        let text = record(&format!("audit: type=1326 audit(1.002:3): {FIELDS}"), "_TRANSPORT=kernel\n");
        assert_eq!(units(text), (vec![None], 1));
    }

    #[test]
    fn a_client_cannot_pose_as_the_kernel() {
        let text = record(&format!("SECCOMP {FIELDS}"), "_TRANSPORT=syslog\n_AUDIT_TYPE=1326\n");
        assert_eq!(units(text), (vec![], 1));
    }

    #[test]
    fn the_unit_of_an_earlier_entry_of_the_process_is_remembered() {
        let denial = record(&format!("SECCOMP {FIELDS}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n");
        let hello = record("hello", "_TRANSPORT=stdout\n_PID=7\n_SYSTEMD_UNIT=a.service\n");
        assert_eq!(units(format!("{hello}{denial}")).0, [Some("system a.service".into())]);
        let user = "_PID=7\n_SYSTEMD_UNIT=user@1000.service\n_SYSTEMD_USER_UNIT=a.service\n_SYSTEMD_OWNER_UID=1000\n";
        let hello = record("hello", user);
        assert_eq!(units(format!("{hello}{denial}")).0, [Some("user:1000 a.service".into())]);
    }

    #[test]
    fn who_has_the_pid_later_and_runs_another_program_is_not_taken_for_it() {
        let denial = record(&format!("SECCOMP {FIELDS}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n");
        let days_later = denial.replace("__REALTIME_TIMESTAMP=5000", "__REALTIME_TIMESTAMP=432000000000");
        let wrote = |exe: &str| record("hello", &format!("_PID=7\n_EXE={exe}\n_SYSTEMD_UNIT=a.service\n"));
        let told = |exe: &str, denial: &str| units(format!("{}{denial}", wrote(exe))).0.remove(0);
        assert_eq!(told("/b", &days_later), None);
        assert_eq!(told("/a", &days_later), Some("system a.service".into()));
        assert_eq!(told("/a (deleted)", &days_later), Some("system a.service".into()));
        assert_eq!(told("/b", &denial), Some("system a.service".into()), "it may have executed another since");
        assert_eq!(told(&format!("/{}", "a".repeat(300)), &days_later), None, "too long to be remembered");
    }

    #[test]
    fn a_pid_means_nothing_in_another_boot() {
        let hello = record("hello", "_PID=7\n_SYSTEMD_UNIT=a.service\n").replace("_BOOT_ID=b", "_BOOT_ID=c");
        let denial = record(&format!("SECCOMP {FIELDS}"), "_TRANSPORT=audit\n_AUDIT_TYPE=1326\n");
        assert_eq!(units(format!("{hello}{denial}")).0, [None]);
    }

    #[test]
    fn a_manager_tells_of_a_death() {
        let told = |more: &str| {
            let id = "98e322203f7a4ed290d09fe03c09fe15";
            let text = format!(
                "__CURSOR=s=1\n_BOOT_ID=b\n_TRANSPORT=journal\nMESSAGE_ID={id}\nEXIT_CODE=killed\nEXIT_STATUS=31\n{more}\n"
            );
            let tally = read(&mut text.as_bytes(), &mut |_, _, _| ()).unwrap();
            assert_eq!((tally.lines, tally.foreign), (1, 1));
            tally
                .deaths
                .units
                .iter()
                .map(|(unit, count)| format!("{} {} {count}", unit.manager, unit.name))
                .collect::<Vec<_>>()
        };
        assert_eq!(told("_PID=1\n_UID=0\nUNIT=a.service\n"), ["system a.service 1"]);
        let user = "_PID=9\n_UID=1000\n_SYSTEMD_UNIT=user@1000.service\nUSER_UNIT=a.service\n";
        assert_eq!(told(user), ["user:1000 a.service 1"]);
        assert_eq!(told("_PID=9\n_UID=0\nUNIT=a.service\n"), [""; 0], "not PID 1");
    }

    #[test]
    fn binary_fields_are_skipped_by_their_length() {
        let mut bytes = b"__CURSOR=s=1\n_TRANSPORT=audit\nEVIL\n".to_vec();
        let evil = b"\n\nMESSAGE=x\n__CURSOR=";
        bytes.extend_from_slice(&(evil.len() as u64).to_le_bytes());
        bytes.extend_from_slice(evil);
        let message = format!("SECCOMP {FIELDS}");
        bytes.extend_from_slice(b"\n_AUDIT_TYPE=1326\nMESSAGE\n");
        bytes.extend_from_slice(&(message.len() as u64).to_le_bytes());
        bytes.extend_from_slice(message.as_bytes());
        bytes.extend_from_slice(b"\n\n");
        assert_eq!(units(&bytes), (vec![None], 1));
        for cut in 0..bytes.len() {
            read(&mut &bytes[..cut], &mut |_, _, _| ()).unwrap();
        }
    }

    #[test]
    fn an_absurd_length_ends_with_the_input() {
        let mut bytes = b"__CURSOR=s=1\nMESSAGE\n".to_vec();
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        bytes.extend_from_slice(b"abc");
        assert_eq!(units(&bytes), (vec![], 1));
    }
}
