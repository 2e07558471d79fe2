//! The explanation in an alert: the settings that denied the call, and the lines that would let it pass.
//!
//! An alert holds only certain facts, because no person requested it.

use super::journal::AlertEntry;
use crate::audit::text::{escape, join};
use crate::diagnosis::{DenialCause, Elsewhere, Finding, Remedy, Reservation};
use crate::policy;
use crate::policy::CauseReason;
use std::collections::BTreeSet;

/// The longest remedy in an alert. An alert omits a longer remedy, because a part of a remedy would not help.
const MOST_LINES: usize = 16;
const MOST_BYTES: usize = 4 << 10;

/// The explanation of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// The unit's settings decided on the call.
    Settings(DecidingSettings),
    /// The alert names no directive, for this reason.
    NoDirective(NoDirective),
}

/// Why an alert names no directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDirective {
    /// The unit is unknown.
    UnknownUnit,
    /// The kernel sent no record, so the call is unknown.
    UnrecordedDeath,
    /// The unit is a user's: root would open files that a user names.
    UserUnit,
    /// systemd gives no filter to units of this type, such as scopes.
    UnitType,
    /// systemd never denies a call in this way, so the filter is another's.
    ForeignAction,
    /// The call has no name, so no setting can name it.
    UnknownCall,
    /// Too many denials at once: the daemon asks for the settings of few units.
    Busy,
    /// The manager did not answer in time.
    Late,
    /// The manager or the files of the unit cannot be read.
    SettingsUnread,
    /// The settings changed since the process started.
    SettingsChanged,
    /// The manager's settings differ from those in the files, or cannot all be compared.
    Uncertain,
    /// The settings do not decide on the call: the filter is another's.
    Elsewhere,
}

impl NoDirective {
    /// Returns its word in `HARDEN_WHY_NO_DIRECTIVE=`.
    fn word(self) -> &'static str {
        match self {
            Self::UnknownUnit => "unknown-unit",
            Self::UnrecordedDeath => "unrecorded-death",
            Self::UserUnit => "user-unit",
            Self::UnitType => "unit-type",
            Self::ForeignAction => "foreign-action",
            Self::UnknownCall => "unknown-call",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::SettingsUnread => "settings-unread",
            Self::SettingsChanged => "settings-changed",
            Self::Uncertain => "uncertain",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// Returns the reason in words; `None` if the message says it already.
    fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownUnit | Self::UnrecordedDeath => return None,
            Self::UserUnit => "harden-whyd reads no files of users",
            Self::UnitType => "systemd sets no filter for this unit",
            Self::ForeignAction => "no setting denies a call in this way",
            Self::UnknownCall => "no setting can name this call",
            Self::Busy => "too many denials at once",
            Self::Late => "the manager did not answer in time",
            Self::SettingsUnread => "the unit's settings were not readable",
            Self::SettingsChanged => "the unit's settings changed since",
            Self::Uncertain => "the unit's files differ from what its manager holds",
            Self::Elsewhere => "no setting of the unit did it",
        })
    }
}

/// What the unit's settings did in an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidingSettings {
    role: SettingsRole,
    /// The directives with their files and lines, as far as these are known; the deciding directive comes first.
    directives: Vec<(&'static str, Option<String>)>,
    /// The lines of the narrowest remedy; empty if there is none.
    remedy: Vec<String>,
    /// Whether the denied process may be an intruder.
    is_possible_intrusion: bool,
}

/// What the settings did to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SettingsRole {
    Denied,
    /// They deny the call for some arguments, and no record holds arguments.
    PossiblyDenied,
    Logged,
}

impl SettingsRole {
    /// Returns its word in `--json`.
    fn word(self) -> &'static str {
        match self {
            Self::Denied => "unit",
            Self::PossiblyDenied => "possibly-unit",
            Self::Logged => "logged",
        }
    }
}

impl Explanation {
    /// Returns the explanation of a finding: the directives that are `certain`, and the remedy if all of them and the
    /// policy are certain.
    #[must_use]
    pub fn from_finding(
        finding: &Finding,
        remedy: Option<&Remedy>,
        certain: impl Fn(&policy::DirectiveCause) -> bool,
        policy_is_certain: bool,
    ) -> Self {
        let (role, by): (_, &[policy::DirectiveCause]) = match &finding.cause {
            DenialCause::Unit { by, changed: false, .. } => (SettingsRole::Denied, by),
            DenialCause::Possible { by } | DenialCause::PossiblyOtherSystemd { by } => {
                (SettingsRole::PossiblyDenied, by)
            }
            DenialCause::Logged { by: Some(by) } => (SettingsRole::Logged, std::slice::from_ref(by)),
            other => return Self::NoDirective(why_no_setting_decides(other)),
        };
        let mut named = BTreeSet::new();
        let directives: Vec<_> = by
            .iter()
            .filter(|cause| certain(cause) && named.insert(cause.directive.key()))
            .map(|cause| (cause.directive.key(), origin(cause)))
            .collect();
        let remedy = remedy.filter(|_| policy_is_certain && by.iter().all(&certain));
        let remedy = remedy.map_or(&[][..], |remedy| &remedy.lines);
        // An escaped line could not be copied.
        let plain = remedy.iter().all(|line| escape(line.as_bytes()) == *line);
        let short = remedy.len() <= MOST_LINES && remedy.iter().map(String::len).sum::<usize>() <= MOST_BYTES;
        let remedy = if plain && short { remedy.to_vec() } else { Vec::new() };
        if directives.is_empty() {
            return Self::NoDirective(NoDirective::Uncertain);
        }
        let is_possible_intrusion = finding.reservation == Some(Reservation::PossibleIntrusion);
        Self::Settings(DecidingSettings { role, directives, remedy, is_possible_intrusion })
    }

    /// Whether the denied process may be an intruder.
    #[must_use]
    pub fn is_possible_intrusion(&self) -> bool {
        matches!(self, Self::Settings(settings) if settings.is_possible_intrusion)
    }

    /// Adds its fields to an entry.
    pub(super) fn add_fields(&self, entry: &mut AlertEntry) {
        match self {
            Self::Settings(settings) => settings.add_fields(entry),
            Self::NoDirective(why) => entry.push("HARDEN_WHY_NO_DIRECTIVE", why.word()),
        }
    }

    /// Returns clauses that follow "… the call", the longer one first.
    pub(super) fn clauses(&self) -> Vec<String> {
        match self {
            Self::Settings(settings) => settings.clauses(),
            Self::NoDirective(why) => {
                why.words().map(|words| format!("; no directive is named: {words}")).into_iter().collect()
            }
        }
    }
}

/// Returns why no setting of the unit decides, by the cause.
fn why_no_setting_decides(cause: &DenialCause) -> NoDirective {
    match cause {
        DenialCause::UnrecordedDeath => NoDirective::UnrecordedDeath,
        DenialCause::UnknownCall => NoDirective::UnknownCall,
        DenialCause::SettingsUnread => NoDirective::SettingsUnread,
        DenialCause::Unit { changed: true, .. }
        | DenialCause::BeforeChange { .. }
        | DenialCause::Elsewhere(Elsewhere::Fixed(_)) => NoDirective::SettingsChanged,
        DenialCause::Elsewhere(Elsewhere::Scope) => NoDirective::UnitType,
        DenialCause::Elsewhere(Elsewhere::ForeignAction) => NoDirective::ForeignAction,
        _ => NoDirective::Elsewhere,
    }
}

impl DecidingSettings {
    fn add_fields(&self, entry: &mut AlertEntry) {
        entry.push("HARDEN_WHY_CAUSE", self.role.word());
        for (directive, origin) in &self.directives {
            entry.push("HARDEN_WHY_DIRECTIVE", *directive);
            if let Some(origin) = origin {
                entry.push("HARDEN_WHY_ORIGIN", origin.as_str());
            }
        }
        for line in &self.remedy {
            entry.push("HARDEN_WHY_REMEDY", line.as_str());
        }
    }

    fn clauses(&self) -> Vec<String> {
        let names = join(self.directives.iter().map(|(directive, _)| format!("{directive}=")));
        let short = match self.role {
            SettingsRole::Denied => format!(", denied by {names}"),
            SettingsRole::PossiblyDenied => format!(", possibly denied by {names}"),
            SettingsRole::Logged => format!(", listed by {names}"),
        };
        let long = match self.directives.as_slice() {
            [(_, Some(origin))] => Some(format!("{short} in {origin}")),
            _ => None,
        };
        long.into_iter().chain([short]).collect()
    }
}

/// Returns the file and line of a directive. They are unknown for a group's call that libseccomp does not know: the
/// groups here may be those of another systemd.
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
    use crate::outlet::alert;
    use crate::outlet::alert_message::{MAX_MESSAGE, message};
    use crate::outlet::message_ids::POSSIBLE_INTRUSION;
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
        let policy = Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64));
        Situation { policy, drop_in: drop_in_path.to_owned(), history: None, programs: Vec::new() }
    }

    /// Returns the fields without their prefix and the message of an explanation in which some directives are doubtful.
    fn explain(lines: &str, incident: &Incident, doubtful: &[Directive]) -> (Vec<String>, String) {
        let (situation, groups) = (situation(lines, ""), Groups::embedded());
        let (finding, remedy) = diagnose_one(incident.clone(), &situation, &groups);
        let all = diagnose(vec![incident.clone()], Some(&situation), &groups).remedies;
        let first = all.iter().find(|remedy| remedy.reservation.is_none());
        assert_eq!(first.map(|first| &first.lines), remedy.as_ref().map(|remedy| &remedy.lines));
        let certain = |cause: &policy::DirectiveCause| !doubtful.contains(&cause.directive);
        let why = Explanation::from_finding(&finding, remedy.as_ref(), certain, doubtful.is_empty());
        let mut entry = AlertEntry::default();
        why.add_fields(&mut entry);
        let field = |(name, value): (&str, &[u8])| {
            format!("{}={}", name.strip_prefix("HARDEN_WHY_").unwrap(), str::from_utf8(value).unwrap())
        };
        (entry.fields().map(field).collect(), message(incident, Some(&why)))
    }

    #[test]
    fn alert_of_possible_intrusion_has_its_own_catalog_entry_and_no_remedy() {
        let mut incident = incident("bpf", Action::KillProcess);
        (incident.key.exe, incident.sample.uid) = (b"/tmp/x".to_vec(), "65534".into());
        let (situation, groups) = (situation("ExecStart=/bin/a\nSystemCallFilter=@basic-io", ""), Groups::embedded());
        let (finding, remedy) = diagnose_one(incident.clone(), &situation, &groups);
        let why = Explanation::from_finding(&finding, remedy.as_ref(), |_| true, true);
        let entry = alert::entry(&incident, None, Some(&why));
        let field = |name| entry.get(name).map(|value| str::from_utf8(value).unwrap());
        assert_eq!(field("MESSAGE_ID"), Some(POSSIBLE_INTRUSION));
        assert_eq!((field("HARDEN_WHY_UID"), field("HARDEN_WHY_REMEDY")), (Some("65534"), None));
        let catalog = include_str!("../../systemd/harden-why.catalog");
        let text = catalog.split("\n-- ").find(|text| text.starts_with(POSSIBLE_INTRUSION)).unwrap();
        for name in text.split('@').skip(1).step_by(2) {
            assert!(field(name).is_some(), "{name}");
        }
        incident.sample.uid = "0".into();
        let (finding, remedy) = diagnose_one(incident.clone(), &situation, &groups);
        let why = Explanation::from_finding(&finding, remedy.as_ref(), |_| true, true);
        assert!(!why.is_possible_intrusion() && remedy.is_some(), "without a user the unit's commands are root's");
    }

    #[test]
    fn explanation_names_directive_with_line_and_remedy() {
        let (fields, message) = explain("SystemCallFilter=@basic-io", &incident("socket", Action::KillProcess), &[]);
        assert_eq!(
            fields,
            [
                "CAUSE=unit",
                "DIRECTIVE=SystemCallFilter",
                "ORIGIN=/etc/systemd/system/a.service:2",
                "REMEDY=SystemCallFilter=socket"
            ]
        );
        assert!(message.ends_with(
            "for calling socket, denied by SystemCallFilter= in /etc/systemd/system/a.service:2; see 'harden-why a.service'"
        ));
    }

    #[test]
    fn explanation_names_every_directive_and_marks_possible_directives() {
        let lines = "ProtectClock=yes\nSystemCallFilter=~@clock\nSystemCallErrorNumber=EPERM\nRestrictNamespaces=yes";
        let (fields, message) = explain(lines, &incident("settimeofday", Action::Errno), &[]);
        let directives: Vec<&str> = fields.iter().filter_map(|field| field.strip_prefix("DIRECTIVE=")).collect();
        assert_eq!(directives, ["SystemCallFilter", "ProtectClock"]);
        assert_eq!(fields.iter().filter(|field| field.starts_with("ORIGIN=")).count(), 2);
        assert!(fields.contains(&"REMEDY=ProtectClock=no".to_owned()), "{fields:?}");
        assert!(message.contains("settimeofday, denied by SystemCallFilter= and ProtectClock=; see"), "{message}");
        let (fields, message) = explain(lines, &incident("unshare", Action::Errno), &[]);
        assert_eq!(fields[..2], ["CAUSE=possibly-unit", "DIRECTIVE=RestrictNamespaces"]);
        assert!(message.contains(", possibly denied by RestrictNamespaces= in "), "{message}");
        let (fields, message) = explain("SystemCallLog=read", &incident("read", Action::Log), &[]);
        assert_eq!(fields[..2], ["CAUSE=logged", "DIRECTIVE=SystemCallLog"]);
        assert!(message.contains("logs and allows, listed by SystemCallLog= in "), "{message}");
    }

    #[test]
    fn doubtful_directive_is_not_named() {
        let lines = "ProtectClock=yes\nSystemCallFilter=~@clock\nSystemCallErrorNumber=EPERM";
        let denied = incident("settimeofday", Action::Errno);
        let (fields, _) = explain(lines, &denied, &[Directive::ProtectClock]);
        assert_eq!(fields, ["CAUSE=unit", "DIRECTIVE=SystemCallFilter", "ORIGIN=/etc/systemd/system/a.service:3"]);
        let doubtful = [Directive::ProtectClock, Directive::SystemCallFilter];
        assert_eq!(explain(lines, &denied, &doubtful).0, ["NO_DIRECTIVE=uncertain"]);
        // The settings permit the call, or have another effect than the record shows.
        let (fields, message) = explain(lines, &incident("socket", Action::KillProcess), &[]);
        assert_eq!(fields, ["NO_DIRECTIVE=elsewhere"]);
        let reason =
            "for calling socket; no directive is named: no setting of the unit did it; see 'harden-why a.service'";
        assert!(message.contains(reason), "{message}");
        let refused = incident("socket", Action::Errno);
        assert_eq!(explain("SystemCallFilter=~socket", &refused, &[]).0, ["NO_DIRECTIVE=settings-changed"]);
        assert_eq!(explain("", &incident("read", Action::Log), &[]).0, ["NO_DIRECTIVE=elsewhere"]);
    }

    #[test]
    fn long_or_escaped_remedy_is_left_out() {
        let denied = incident("socket", Action::KillProcess);
        let remedy_with = |drop_in: &str| {
            let situation = situation("SystemCallFilter=@basic-io", drop_in);
            let (finding, remedy) = diagnose_one(denied.clone(), &situation, &Groups::embedded());
            match Explanation::from_finding(&finding, remedy.as_ref(), |_| true, true) {
                Explanation::Settings(settings) => settings.remedy,
                Explanation::NoDirective(why) => panic!("{why:?}"),
            }
        };
        assert_eq!(remedy_with("SystemCallFilter=bind"), ["SystemCallFilter=bind socket"]);
        assert_eq!(
            remedy_with("SystemCallFilter=bind\nLockPersonality=\\\\no"),
            [""; 0],
            "a backslash is shown as two"
        );
        assert_eq!(
            remedy_with(&format!("SystemCallFilter={}", "bind ".repeat(2_000))),
            ["SystemCallFilter=bind socket"]
        );
        assert_eq!(remedy_with(&"LockPersonality=yes\nLockPersonality=no\n".repeat(9)).len(), 0);
    }

    #[test]
    fn hostile_file_name_is_escaped_and_message_stays_short() {
        let path = format!("/etc/systemd/system/\n\x1b[2J{}", "x".repeat(240));
        let cause = policy::DirectiveCause {
            directive: Directive::SystemCallFilter,
            origin: Some(policy::Origin { path: Path::new(&path).into(), line: 3 }),
            effect: None,
            why: CauseReason::Abi,
        };
        let why = Explanation::Settings(DecidingSettings {
            is_possible_intrusion: false,
            role: SettingsRole::Denied,
            directives: vec![(cause.directive.key(), origin(&cause))],
            remedy: Vec::new(),
        });
        let mut entry = AlertEntry::default();
        why.add_fields(&mut entry);
        let shown = str::from_utf8(entry.get("HARDEN_WHY_ORIGIN").unwrap()).unwrap();
        assert!(shown.starts_with("/etc/systemd/system/\\x0a\\x1b[2J") && shown.ends_with(":3"), "{shown}");
        let message = message(&incident("socket", Action::KillProcess), Some(&why));
        assert!(message.chars().count() <= MAX_MESSAGE);
        assert!(message.ends_with(", denied by SystemCallFilter=; see 'harden-why a.service'"), "{message}");
    }
}
