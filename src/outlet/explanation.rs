//! Why, as an alert says it: which settings of the unit denied the call, and what would let it pass. Only what is certain
//! is said, since nobody asked.

use super::journal::AlertEntry;
use crate::audit::text::{escape, join};
use crate::diagnosis::{DenialCause, Finding, Remedy};
use crate::policy;
use crate::policy::CauseReason;
use std::collections::BTreeSet;

/// A remedy of more lines or bytes is left to be asked for: half of it would be none.
const MOST_LINES: usize = 16;
const MOST_BYTES: usize = 4 << 10;

/// What the unit's settings have to do with an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    part: Part,
    /// The directives with their files and lines, as far as these are known, the one that decides first.
    directives: Vec<(&'static str, Option<String>)>,
    /// The lines that would let the call pass with the least that opens, if there are any.
    remedy: Vec<String>,
}

/// Which part they had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Denied,
    /// It depends on arguments, which no record tells.
    Perhaps,
    Logged,
}

impl Part {
    /// The word that `--json` has for it.
    fn word(self) -> &'static str {
        match self {
            Self::Denied => "unit",
            Self::Perhaps => "possibly-unit",
            Self::Logged => "logged",
        }
    }
}

impl Explanation {
    /// With those directives that are `certain`, and the remedy if all are and the policy it was proven on is. `None`
    /// where the unit's settings had no part in it, or may have changed since.
    #[must_use]
    pub fn from_finding(
        finding: &Finding,
        remedy: Option<&Remedy>,
        certain: impl Fn(&policy::DirectiveCause) -> bool,
        policy_is_certain: bool,
    ) -> Option<Self> {
        let (part, by): (_, &[policy::DirectiveCause]) = match &finding.cause {
            DenialCause::Unit { by, changed: false, .. } => (Part::Denied, by),
            DenialCause::Possible { by } => (Part::Perhaps, by),
            DenialCause::Logged { by: Some(by) } => (Part::Logged, std::slice::from_ref(by)),
            _ => return None,
        };
        let mut said = BTreeSet::new();
        let directives: Vec<_> = by
            .iter()
            .filter(|cause| certain(cause) && said.insert(cause.directive.key()))
            .map(|cause| (cause.directive.key(), origin(cause)))
            .collect();
        let remedy = remedy.filter(|_| policy_is_certain && by.iter().all(&certain));
        let remedy = remedy.map_or(&[][..], |remedy| &remedy.lines);
        // What would have to be escaped could not be copied.
        let plain = remedy.iter().all(|line| escape(line.as_bytes()) == *line);
        let short = remedy.len() <= MOST_LINES && remedy.iter().map(String::len).sum::<usize>() <= MOST_BYTES;
        let remedy = if plain && short { remedy.to_vec() } else { Vec::new() };
        (!directives.is_empty()).then_some(Self { part, directives, remedy })
    }

    /// Its fields.
    pub(super) fn push(&self, entry: &mut AlertEntry) {
        entry.push("HARDEN_WHY_CAUSE", self.part.word());
        for (directive, origin) in &self.directives {
            entry.push("HARDEN_WHY_DIRECTIVE", format!("{directive}="));
            if let Some(origin) = origin {
                entry.push("HARDEN_WHY_ORIGIN", origin.as_str());
            }
        }
        for line in &self.remedy {
            entry.push("HARDEN_WHY_REMEDY", line.as_str());
        }
    }

    /// In words that go on from "… the call", the longer first.
    pub(super) fn clauses(&self) -> impl Iterator<Item = String> {
        let names = join(self.directives.iter().map(|(directive, _)| format!("{directive}=")));
        let short = match self.part {
            Part::Denied => format!(", denied by {names}"),
            Part::Perhaps => format!(", possibly denied by {names}"),
            Part::Logged => format!(", listed by {names}"),
        };
        let long = match self.directives.as_slice() {
            [(_, Some(origin))] => Some(format!("{short} in {origin}")),
            _ => None,
        };
        long.into_iter().chain([short])
    }
}

/// Where a directive stands. Of a call that a group lists and systemd does not hold, that is not known: here groups are
/// those of another systemd, and it may be in none of the unit's.
fn origin(cause: &policy::DirectiveCause) -> Option<String> {
    let known = !matches!(cause.why, CauseReason::UnknownToLibseccomp(_));
    cause.origin.as_ref().filter(|_| known).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::diagnosis::{Situation, diagnose, diagnose_one};
    use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::outlet::alert::{MAX_MESSAGE, message};
    use crate::policy::{Directive, Policy, Settings, UnitFile};
    use crate::syscalls::{Abi, Call, Groups};
    use crate::units::{Manager, Unit};
    use std::path::Path;

    const FILE: &str = "/etc/systemd/system/a.service";

    fn incident(call: &str, action: Action) -> Incident {
        let number = Abi::X86_64.call_number(call).unwrap();
        let event =
            IncidentEvent::Denial(Denial { call: Call::numbered(crate::syscalls::Arch::X86_64, number), action });
        let unit = Some(Unit { manager: Manager::System, name: "a.service".parse().unwrap() });
        Incident {
            key: IncidentKey { unit, event, exe: b"/bin/a".to_vec(), source: SightingSource::Audit },
            rung: None,
            count: 1,
            first: Moment::Unknown,
            last: Moment::Unknown,
            sample: Sample { pid: 7, ..Sample::default() },
        }
    }

    fn situation(lines: &str, drop_in: &str) -> Situation {
        let drop_in_path = Path::new("/etc/systemd/system/a.service.d/zz-harden-why.conf");
        let fragment = UnitFile::parse(Path::new(FILE), format!("[Service]\n{lines}\n").as_bytes());
        let drop_in = UnitFile::parse(drop_in_path, format!("[Service]\n{drop_in}\n").as_bytes());
        let settings = Settings::new(&"a.service".parse().unwrap(), Some(fragment), vec![drop_in]);
        let policy = Policy::new(settings, Abi::X86_64, &Groups::embedded());
        Situation { policy, drop_in: drop_in_path.to_owned(), history: None }
    }

    /// What is said where these directives are certain, as fields without their common beginning, and as words.
    fn said(lines: &str, incident: &Incident, doubtful: &[Directive]) -> (Vec<String>, String) {
        let (situation, groups) = (situation(lines, ""), Groups::embedded());
        let (finding, remedy) = diagnose_one(incident.clone(), &situation, &groups);
        let all = diagnose(vec![incident.clone()], Some(&situation), &groups).remedies;
        assert_eq!(all.first().map(|first| &first.lines), remedy.as_ref().map(|remedy| &remedy.lines));
        let certain = |cause: &policy::DirectiveCause| !doubtful.contains(&cause.directive);
        let why = Explanation::from_finding(&finding, remedy.as_ref(), certain, doubtful.is_empty());
        let mut entry = AlertEntry::default();
        if let Some(why) = &why {
            why.push(&mut entry);
        }
        let field = |(name, value): (&str, &[u8])| {
            format!("{}={}", name.strip_prefix("HARDEN_WHY_").unwrap(), str::from_utf8(value).unwrap())
        };
        (entry.fields().map(field).collect(), message(incident, why.as_ref()))
    }

    #[test]
    fn the_directive_is_said_with_its_line_and_what_would_lift_it() {
        let (fields, message) = said("SystemCallFilter=@basic-io", &incident("socket", Action::KillProcess), &[]);
        assert_eq!(
            fields,
            [
                "CAUSE=unit",
                "DIRECTIVE=SystemCallFilter=",
                "ORIGIN=/etc/systemd/system/a.service:2",
                "REMEDY=SystemCallFilter=socket"
            ]
        );
        assert!(message.ends_with(
            "for calling socket, denied by SystemCallFilter= in /etc/systemd/system/a.service:2; see 'harden-why a.service'"
        ));
    }

    #[test]
    fn every_directive_is_said_and_what_depends_on_arguments_is_possible() {
        let lines = "ProtectClock=yes\nSystemCallFilter=~@clock\nSystemCallErrorNumber=EPERM\nRestrictNamespaces=yes";
        let (fields, message) = said(lines, &incident("settimeofday", Action::Errno), &[]);
        let directives: Vec<&str> = fields.iter().filter_map(|field| field.strip_prefix("DIRECTIVE=")).collect();
        assert_eq!(directives, ["SystemCallFilter=", "ProtectClock="]);
        assert_eq!(fields.iter().filter(|field| field.starts_with("ORIGIN=")).count(), 2);
        assert!(fields.contains(&"REMEDY=ProtectClock=no".to_owned()), "{fields:?}");
        assert!(message.contains("settimeofday, denied by SystemCallFilter= and ProtectClock=; see"), "{message}");
        let (fields, message) = said(lines, &incident("unshare", Action::Errno), &[]);
        assert_eq!(fields[..2], ["CAUSE=possibly-unit", "DIRECTIVE=RestrictNamespaces="]);
        assert!(message.contains(", possibly denied by RestrictNamespaces= in "), "{message}");
        let (fields, message) = said("SystemCallLog=read", &incident("read", Action::Log), &[]);
        assert_eq!(fields[..2], ["CAUSE=logged", "DIRECTIVE=SystemCallLog="]);
        assert!(message.contains("logs and allows, listed by SystemCallLog= in "), "{message}");
    }

    #[test]
    fn nothing_is_said_that_is_not_certain() {
        let lines = "ProtectClock=yes\nSystemCallFilter=~@clock\nSystemCallErrorNumber=EPERM";
        let denied = incident("settimeofday", Action::Errno);
        let (fields, _) = said(lines, &denied, &[Directive::ProtectClock]);
        assert_eq!(fields, ["CAUSE=unit", "DIRECTIVE=SystemCallFilter=", "ORIGIN=/etc/systemd/system/a.service:3"]);
        assert_eq!(said(lines, &denied, &[Directive::ProtectClock, Directive::SystemCallFilter]).0, [""; 0]);
        // Permitted: the program's own sandbox. And: the settings act otherwise than the record says.
        let (fields, message) = said(lines, &incident("socket", Action::KillProcess), &[]);
        assert!(fields.is_empty() && message.contains("for calling socket; see 'harden-why a.service'"), "{message}");
        assert_eq!(said("SystemCallFilter=~socket", &incident("socket", Action::Errno), &[]).0, [""; 0]);
        assert_eq!(said("", &incident("read", Action::Log), &[]).0, [""; 0]);
    }

    #[test]
    fn what_is_too_long_or_would_have_to_be_escaped_is_left_out() {
        let denied = incident("socket", Action::KillProcess);
        let of = |drop_in: &str| {
            let situation = situation("SystemCallFilter=@basic-io", drop_in);
            let (finding, remedy) = diagnose_one(denied.clone(), &situation, &Groups::embedded());
            Explanation::from_finding(&finding, remedy.as_ref(), |_| true, true).unwrap().remedy
        };
        assert_eq!(of("SystemCallFilter=bind"), ["SystemCallFilter=bind socket"]);
        assert_eq!(of("SystemCallFilter=bind\nLockPersonality=\\\\no"), [""; 0], "a backslash is shown as two");
        assert_eq!(of(&format!("SystemCallFilter={}", "bind ".repeat(2_000))), ["SystemCallFilter=bind socket"]);
        assert_eq!(of(&"LockPersonality=yes\nLockPersonality=no\n".repeat(9)).len(), 0);
    }

    #[test]
    fn a_file_with_a_hostile_name_is_shown_escaped_and_the_message_stays_short() {
        let path = format!("/etc/systemd/system/\n\x1b[2J{}", "x".repeat(240));
        let cause = policy::DirectiveCause {
            directive: Directive::SystemCallFilter,
            origin: Some(policy::Origin { path: Path::new(&path).into(), line: 3 }),
            effect: None,
            why: CauseReason::Abi,
        };
        let why = Explanation {
            part: Part::Denied,
            directives: vec![(cause.directive.key(), origin(&cause))],
            remedy: Vec::new(),
        };
        let mut entry = AlertEntry::default();
        why.push(&mut entry);
        let shown = str::from_utf8(entry.get("HARDEN_WHY_ORIGIN").unwrap()).unwrap();
        assert!(shown.starts_with("/etc/systemd/system/\\x0a\\x1b[2J") && shown.ends_with(":3"), "{shown}");
        let message = message(&incident("socket", Action::KillProcess), Some(&why));
        assert!(message.chars().count() <= MAX_MESSAGE);
        assert!(message.ends_with(", denied by SystemCallFilter=; see 'harden-why a.service'"), "{message}");
    }
}
