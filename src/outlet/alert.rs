//! Alerts: journal entries that `journalctl -u foo.service` shows among the unit's own lines.
//!
//! journalctl matches `OBJECT_SYSTEMD_UNIT=` and similar fields only in entries from uid 0 (`src/shared/logs-show.c`:
//! `add_matches_for_unit`, `add_matches_for_user_unit`).

use super::explanation::Explanation;
use super::journal::AlertEntry;
use crate::audit::text;
use crate::incidents::{AccessDenial, Denial, Incident, IncidentEvent, RowId, describe_event};
use crate::policy::Effect;
use crate::syscalls::{Abi, Call};
use crate::units::{Manager, Unit};
use std::collections::BTreeSet;

/// `MESSAGE_ID=` of a call that was refused or that got its process killed.
pub const DENIAL: &str = "08f099b23cdb4d1399f57dcd22ef4be3";
/// `MESSAGE_ID=` of a denied call that controls the machine, of a process that may be an intruder.
pub const POSSIBLE_INTRUSION: &str = "e79c4b0a641c4b58963976df38d7a0c9";
/// `MESSAGE_ID=` of a death by SIGSYS without a record.
pub const UNRECORDED_DEATH: &str = "791c5a887a8f4dddb129eafb28e97c69";
/// `MESSAGE_ID=` of a call that was only logged.
pub const LOGGED: &str = "ad655bb054d74639843e17b6cc99dc4c";

/// `MESSAGE_ID=` of a summary of incidents that are too many for separate alerts.
pub const SUMMARY: &str = "b20ca02b8ba24516a125c9461842fb57";

/// The longest message, in characters.
pub const MAX_MESSAGE: usize = 280;

/// `PRIORITY=` of `syslog(3)`.
const ERROR: &str = "3";
const WARNING: &str = "4";

/// New incidents that are too many for separate alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of incidents.
    pub incidents: u64,
    /// The first few of their units.
    pub units: BTreeSet<Unit>,
    /// Whether there are more units.
    pub more_units: bool,
}

impl Summary {
    /// The most units that the message names.
    pub const MOST_UNITS: usize = 3;

    /// Adds an incident.
    pub fn add(&mut self, incident: &Incident) {
        self.incidents += 1;
        let Some(unit) = &incident.key.unit else { return };
        if self.units.len() < Self::MOST_UNITS {
            self.units.insert(unit.clone());
        } else {
            self.more_units |= !self.units.contains(unit);
        }
    }

    /// Returns the journal entry.
    #[must_use]
    pub fn entry(&self) -> AlertEntry {
        let mut entry = AlertEntry::default();
        let names: Vec<String> = self.units.iter().map(|unit| shorten(unit.name.as_str(), 40)).collect();
        let whose = match (names.is_empty(), self.more_units) {
            (true, _) => String::new(),
            (false, false) => format!(" of {}", names.join(", ")),
            (false, true) => format!(" of {} and other units", names.join(", ")),
        };
        let message = format!("{} more new denials{whose}; see 'harden-why'", self.incidents);
        entry.push("MESSAGE", shorten(&message, MAX_MESSAGE));
        entry.push("MESSAGE_ID", SUMMARY);
        entry.push("PRIORITY", WARNING);
        entry.push("SYSLOG_IDENTIFIER", "harden-whyd");
        entry.push("HARDEN_WHY_INCIDENTS", self.incidents.to_string());
        if let (Some(only), 1, false) = (self.units.first(), self.units.len(), self.more_units) {
            push_unit(&mut entry, only);
        }
        entry
    }
}

/// Returns the journal entry of an incident; `id` is its row in the store, `why` its explanation.
#[must_use]
pub fn entry(incident: &Incident, id: Option<RowId>, why: Option<&Explanation>) -> AlertEntry {
    let Incident { key, rung, count, sample, .. } = incident;
    let mut entry = AlertEntry::default();
    let is_possible_intrusion = why.is_some_and(Explanation::is_possible_intrusion);
    let (message_id, priority) = match &key.event {
        IncidentEvent::Denial(Denial { action, .. }) if action.is_denial() && is_possible_intrusion => {
            (POSSIBLE_INTRUSION, ERROR)
        }
        IncidentEvent::Denial(Denial { action, .. }) if action.is_denial() => (DENIAL, ERROR),
        IncidentEvent::Denial(_) => (LOGGED, WARNING),
        IncidentEvent::Access(_) => (DENIAL, ERROR),
        IncidentEvent::UnrecordedDeath => (UNRECORDED_DEATH, ERROR),
    };
    entry.push("MESSAGE", message(incident, why));
    entry.push("MESSAGE_ID", message_id);
    entry.push("PRIORITY", priority);
    entry.push("SYSLOG_IDENTIFIER", "harden-whyd");
    if let Some(unit) = &key.unit {
        push_unit(&mut entry, unit);
    }
    if let Some(rung) = rung {
        entry.push("HARDEN_WHY_EVIDENCE", rung.as_str());
    }
    if let Some(call) = incident.call() {
        push_call(&mut entry, call);
    }
    match &key.event {
        IncidentEvent::Denial(denial) => entry.push("HARDEN_WHY_ACTION", denial.action.to_string()),
        IncidentEvent::Access(denial) => push_access(&mut entry, denial),
        IncidentEvent::UnrecordedDeath => {}
    }
    if let Some(why) = why {
        why.add_fields(&mut entry);
    }
    // `OBJECT_PID=` would make journald look the process up and add its unit. journald may do that late, when another
    // process has the pid.
    entry.push("HARDEN_WHY_PID", sample.pid.to_string());
    if !sample.uid.is_empty() {
        entry.push("HARDEN_WHY_UID", text::escape(sample.uid.as_bytes()));
    }
    entry.push("HARDEN_WHY_EXE", text::escape(&key.exe));
    entry.push("HARDEN_WHY_COMM", text::escape(&sample.comm));
    entry.push("HARDEN_WHY_COUNT", count.to_string());
    if let Some(id) = id {
        entry.push("HARDEN_WHY_INCIDENT", id.to_string());
    }
    entry
}

pub(super) fn push_unit(entry: &mut AlertEntry, unit: &Unit) {
    match unit.manager {
        Manager::System => entry.push("OBJECT_SYSTEMD_UNIT", unit.name.as_str()),
        Manager::User(uid) => {
            entry.push("OBJECT_SYSTEMD_USER_UNIT", unit.name.as_str());
            entry.push("OBJECT_SYSTEMD_OWNER_UID", uid.to_string());
        }
    }
    entry.push("HARDEN_WHY_UNIT", unit.name.as_str());
    entry.push("HARDEN_WHY_MANAGER", unit.manager.to_string());
}

fn push_call(entry: &mut AlertEntry, call: &Call) {
    entry.push("HARDEN_WHY_CALL", call_word(call));
    if let Some(number) = call.number() {
        entry.push("HARDEN_WHY_CALL_NUMBER", number.to_string());
    }
    let token = || format!("{:x}", call.arch.0);
    entry.push("HARDEN_WHY_ARCH", call.abi().map(Abi::name).map_or_else(token, str::to_owned));
}

fn push_access(entry: &mut AlertEntry, AccessDenial { errno, access, .. }: &AccessDenial) {
    entry.push("HARDEN_WHY_ERRNO", Effect::Errno(*errno).to_string());
    entry.push("HARDEN_WHY_ACCESS", access.kind());
    if let Some(path) = access.path() {
        entry.push("HARDEN_WHY_PATH", text::escape(path.as_bytes()));
    }
    let detail = access.detail();
    if !detail.is_empty() {
        entry.push("HARDEN_WHY_ACCESS_DETAIL", detail);
    }
}

/// Returns one line of at most [`MAX_MESSAGE`] characters: the unit, the program, what happened, the setting if it is
/// known, and the command that shows more.
#[must_use]
pub fn message(incident: &Incident, why: Option<&Explanation>) -> String {
    let key = &incident.key;
    let whose = match &key.unit {
        Some(Unit { manager: Manager::System, name }) => shorten(name.as_str(), 80),
        Some(Unit { manager: Manager::User(uid), name }) => format!("{} of user {uid}", shorten(name.as_str(), 80)),
        None => "unknown unit".to_owned(),
    };
    let program = if key.exe.is_empty() { &incident.sample.comm } else { &key.exe };
    let program = match program.as_slice() {
        [] => "a process".to_owned(),
        program => shorten_front(&text::escape(program), 60),
    };
    let call = incident.call().map_or_else(String::new, |call| shorten(&call_phrase(call), 40));
    let what = describe_event(&key.event, &call);
    let often = if incident.count > 1 { format!(", {} times so far", incident.count) } else { String::new() };
    let facts = format!("{whose}: {program} (pid {}) {what}{often}", incident.sample.pid);
    let hints = key.unit.iter().map(|unit| format!("; see 'harden-why {}'", unit.name));
    let shortest = "; see 'harden-why'";
    let hints: Vec<String> = hints.chain([shortest.to_owned()]).collect();
    let clauses = why.into_iter().flat_map(Explanation::clauses).chain([String::new()]);
    let longest_first = clauses.flat_map(|clause| hints.iter().map(move |hint| format!("{clause}{hint}")));
    let left = MAX_MESSAGE.saturating_sub(facts.chars().count());
    match longest_first.into_iter().find(|end| end.chars().count() <= left) {
        Some(end) => facts + &end,
        None => shorten(&facts, MAX_MESSAGE - shortest.len()) + shortest,
    }
}

/// Returns the call's word for a sentence. An incident of the daemon counts all numbers without a name.
fn call_phrase(call: &Call) -> String {
    let word = call_word(call);
    if call.name().is_none() && call.number().is_some() { format!("{word} or another unnamed one") } else { word }
}

/// Returns the call's name, or `number 9999` if it has none; the number is signed like the kernel's `syscall=`.
fn call_word(call: &Call) -> String {
    match (call.name(), call.number()) {
        (Some(name), _) => text::escape(name.as_bytes()),
        (None, Some(number)) => format!("number {}", number.cast_signed()),
        (None, None) => "unknown".to_owned(),
    }
}

/// Returns at most so many characters from the start.
fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Returns at most so many characters from the end: the end of a path says more.
fn shorten_front(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(length.saturating_sub(most.saturating_sub(1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::incidents::{Access, AccessPath, IncidentKey, Moment, Sample, SightingSource};
    use crate::outlet::correction::CORRECTION;
    use crate::syscalls::{Arch, CallId};
    use crate::units::Rung;
    use proptest::prelude::*;

    fn denied(manager: Manager, name: &str, action: Action) -> Incident {
        let call = Call::numbered(Arch::X86_64, 41);
        Incident {
            key: IncidentKey {
                unit: Some(Unit { manager, name: name.parse().unwrap() }),
                event: IncidentEvent::Denial(Denial { call, action }),
                exe: b"/usr/bin/ncat".to_vec(),
                source: SightingSource::Audit,
            },
            rung: Some(Rung::OwnCgroup),
            count: 3,
            first: Moment::At(1),
            last: Moment::At(2),
            sample: Sample { pid: 41343, comm: b"ncat\n".to_vec(), ..Sample::default() },
        }
    }

    fn fields(entry: &AlertEntry) -> Vec<String> {
        entry.fields().map(|(name, value)| format!("{name}={}", str::from_utf8(value).unwrap())).collect()
    }

    #[test]
    fn alert_of_kill_in_system_unit_has_all_fields() {
        let incident = denied(Manager::System, "remote-ssh-agent.service", Action::KillProcess);
        assert_eq!(
            fields(&entry(&incident, Some(7), None)),
            [
                "MESSAGE=remote-ssh-agent.service: /usr/bin/ncat (pid 41343) was killed by SIGSYS for calling socket, 3 times so far; \
                 see 'harden-why remote-ssh-agent.service'",
                "MESSAGE_ID=08f099b23cdb4d1399f57dcd22ef4be3",
                "PRIORITY=3",
                "SYSLOG_IDENTIFIER=harden-whyd",
                "OBJECT_SYSTEMD_UNIT=remote-ssh-agent.service",
                "HARDEN_WHY_UNIT=remote-ssh-agent.service",
                "HARDEN_WHY_MANAGER=system",
                "HARDEN_WHY_EVIDENCE=own-cgroup",
                "HARDEN_WHY_CALL=socket",
                "HARDEN_WHY_CALL_NUMBER=41",
                "HARDEN_WHY_ARCH=x86_64",
                "HARDEN_WHY_ACTION=kill_process",
                "HARDEN_WHY_PID=41343",
                "HARDEN_WHY_EXE=/usr/bin/ncat",
                "HARDEN_WHY_COMM=ncat\\x0a",
                "HARDEN_WHY_COUNT=3",
                "HARDEN_WHY_INCIDENT=7",
            ]
        );
    }

    #[test]
    fn alert_of_access_names_what_is_withheld_and_is_short_whatever_the_path() {
        let mut incident = denied(Manager::System, "a.service", Action::Errno);
        let mut alert = |path: &[u8]| {
            let access = Access::ReadOnlyPath(AccessPath::new(path));
            let call = Call::numbered(Arch::X86_64, 2);
            incident.key.event = IncidentEvent::Access(AccessDenial { call, errno: libc::EROFS, access });
            fields(&entry(&incident, None, None))
        };
        let fields = alert(b"/var/lib/x");
        let expected = "MESSAGE=a.service: /usr/bin/ncat (pid 41343) called open, which failed with EROFS: \
                        /var/lib/x is read-only for the unit, 3 times so far; see 'harden-why a.service'";
        assert_eq!(fields[0], expected);
        for field in ["HARDEN_WHY_ERRNO=EROFS", "HARDEN_WHY_ACCESS=read-only-path", "HARDEN_WHY_PATH=/var/lib/x"] {
            assert!(fields.iter().any(|other| other == field), "{field}: {fields:?}");
        }
        let hostile = alert(&[b"/\n\x1b".as_slice(), &[b'x'; 4096]].concat());
        assert!(hostile[0].chars().count() <= MAX_MESSAGE + 8 && !hostile[0].contains('\n'), "{}", hostile[0]);
    }

    #[test]
    fn alert_of_logged_call_in_user_unit_is_warning() {
        let incident = denied(Manager::User(1000), "a.service", Action::Log);
        let entry = entry(&incident, None, None);
        let get = |name| entry.get(name).map(|value| str::from_utf8(value).unwrap());
        assert_eq!((get("MESSAGE_ID"), get("PRIORITY")), (Some(LOGGED), Some("4")));
        assert_eq!(get("OBJECT_SYSTEMD_USER_UNIT"), Some("a.service"));
        assert_eq!(get("OBJECT_SYSTEMD_OWNER_UID"), Some("1000"));
        assert_eq!(get("OBJECT_SYSTEMD_UNIT"), None);
        assert_eq!(get("HARDEN_WHY_PID"), Some("41343"));
        assert_eq!(get("HARDEN_WHY_ARCH"), Some("x86_64"));
        let message = get("MESSAGE").unwrap();
        assert!(message.starts_with("a.service of user 1000: /usr/bin/ncat (pid 41343) made the call socket"));
    }

    #[test]
    fn call_is_named_in_its_abi_or_by_its_number() {
        let word = |arch, number| {
            let mut incident = denied(Manager::System, "a.service", Action::KillProcess);
            let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
            denial.call = Call::numbered(arch, number);
            let entry = entry(&incident, None, None);
            ["HARDEN_WHY_CALL", "HARDEN_WHY_ARCH"]
                .map(|name| String::from_utf8(entry.get(name).unwrap().into()).unwrap())
        };
        assert_eq!(word(Arch::I386, 102), ["socketcall", "i386"]);
        assert_eq!(word(Arch::X86_64, 0x4000_0001), ["write", "x32"]);
        assert_eq!(word(Arch::X86_64, 9999), ["number 9999", "x86_64"]);
        assert_eq!(word(Arch::X86_64, u32::MAX), ["number -1", "x86_64"]);
        assert_eq!(word(Arch(0xdead), 41), ["number 41", "dead"]);
    }

    #[test]
    fn alert_of_unrecorded_death_names_no_call() {
        let mut incident = denied(Manager::System, "a.service", Action::Log);
        incident.key.event = IncidentEvent::UnrecordedDeath;
        let entry = entry(&incident, None, None);
        assert_eq!(entry.get("MESSAGE_ID"), Some(UNRECORDED_DEATH.as_bytes()));
        assert_eq!(entry.get("HARDEN_WHY_CALL"), None);
    }

    #[test]
    fn alert_has_no_object_pid() {
        for action in [Action::KillProcess, Action::Trap, Action::Errno, Action::Log] {
            let entry = entry(&denied(Manager::System, "a.service", action), None, None);
            assert_eq!(entry.get("OBJECT_PID"), None, "{action}");
            assert!(entry.get("HARDEN_WHY_PID").is_some());
        }
    }

    #[test]
    fn long_message_is_shortened() {
        let mut incident = denied(Manager::User(u32::MAX), &format!("{}.service", "u".repeat(240)), Action::Log);
        incident.key.exe = [b"/".repeat(4000), b"tail".to_vec()].concat();
        incident.sample.pid = u32::MAX;
        let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
        denial.call.id = CallId::Name("c".repeat(300).into());
        let message = message(&incident, None);
        assert_eq!(message.chars().count(), MAX_MESSAGE);
        assert!(message.ends_with("; see 'harden-why'"), "{message}");
        assert!(message.contains("/tail (pid"), "{message}");
    }

    #[test]
    fn catalog_explains_every_message_id() {
        let catalog = include_str!("../../systemd/harden-why.catalog");
        let mut explained: Vec<_> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        explained.sort_unstable();
        let mut known = [DENIAL, POSSIBLE_INTRUSION, UNRECORDED_DEATH, CORRECTION, LOGGED, SUMMARY];
        known.sort_unstable();
        assert_eq!(explained, known);
    }

    #[test]
    fn catalog_names_only_fields_of_its_entries() {
        let catalog = include_str!("../../systemd/harden-why.catalog");
        let mut silent = denied(Manager::System, "a.service", Action::Errno);
        silent.key.event = IncidentEvent::UnrecordedDeath;
        let incidents = [
            denied(Manager::System, "a.service", Action::Errno),
            denied(Manager::User(1), "a.service", Action::Log),
            silent,
        ];
        for incident in incidents {
            let entry = entry(&incident, None, None);
            let id = str::from_utf8(entry.get("MESSAGE_ID").unwrap()).unwrap();
            let text = catalog.split("\n-- ").find(|text| text.starts_with(id)).unwrap();
            let named: Vec<_> = text.split('@').skip(1).step_by(2).collect();
            assert!(!named.is_empty());
            for name in named {
                assert!(entry.get(name).is_some(), "{name} of {id}");
            }
        }
    }

    #[test]
    fn summary_names_first_units() {
        let mut summary = Summary::default();
        for number in 0..9 {
            summary.add(&denied(Manager::System, &format!("u{}.service", number % 2), Action::KillProcess));
        }
        let message = |summary: &Summary| String::from_utf8(summary.entry().get("MESSAGE").unwrap().to_vec()).unwrap();
        assert_eq!(message(&summary), "9 more new denials of u0.service, u1.service; see 'harden-why'");
        assert_eq!(summary.entry().get("OBJECT_SYSTEMD_UNIT"), None);
        for number in 0..9 {
            summary.add(&denied(Manager::User(1), &format!("{}{number}.service", "long".repeat(60)), Action::Errno));
        }
        assert!(message(&summary).contains("and other units") && message(&summary).chars().count() <= MAX_MESSAGE);
        let mut one = Summary::default();
        one.add(&denied(Manager::System, "a.service", Action::Errno));
        assert_eq!(one.entry().get("OBJECT_SYSTEMD_UNIT"), Some(&b"a.service"[..]));
    }

    #[test]
    fn alert_of_a_number_without_a_name_says_that_it_stands_for_others() {
        let mut incident = denied(Manager::System, "a.service", Action::KillProcess);
        let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
        denial.call.id = CallId::Number(1_000_000);
        let message = message(&incident, None);
        assert!(message.contains("for calling number 1000000 or another unnamed one,"), "{message}");
    }

    proptest! {
        #[test]
        fn bytes_of_process_are_escaped_and_message_is_bounded(exe: Vec<u8>, comm: Vec<u8>, call in "\\PC*|.*", pid: u32) {
            let mut incident = denied(Manager::System, "a.service", Action::Errno);
            incident.key.exe = exe;
            incident.sample.comm = comm;
            incident.sample.pid = pid;
            let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
            denial.call.id = CallId::Name(call.into());
            let entry = entry(&incident, None, None);
            for (name, value) in entry.fields() {
                let value = str::from_utf8(value).unwrap();
                prop_assert!(!value.chars().any(char::is_control), "{} {:?}", name, value);
                prop_assert!(name.len() <= 64 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
            }
            let message = str::from_utf8(entry.get("MESSAGE").unwrap()).unwrap();
            prop_assert!(message.chars().count() <= MAX_MESSAGE);
        }
    }
}
