//! Unit names as people write them: aliases resolve to their unit, and a template stands for all its instances.

use super::incident_source::{IncidentScope, ManagerScope};
use super::sighting_times::SightingTimes;
use crate::audit::Note;
use crate::audit::text::escape_excerpt;
use crate::cli::args::Units;
use crate::cli::args::values::EMPTY_UNIT;
use crate::cli::exit_status::UsageError;
use crate::incidents::local_time::LocalTime;
use crate::incidents::{Incident, Moment};
use crate::kernel::clock::boot_time_millis;
use crate::systemd::manager::Managers;
use crate::units::{Manager, UnitName};
use anyhow::{Context as _, ensure};
use std::fmt;

/// The characters of a glob pattern, as systemctl takes it.
const WILD: [char; 4] = ['*', '?', '[', ']'];

/// Parses a unit name as a person writes it; a name without suffix means `.service`.
///
/// # Errors
/// The text is not a unit name, or is a pattern.
pub(crate) fn parse_unit_name(name: &str) -> anyhow::Result<UnitName> {
    ensure!(!name.is_empty(), UsageError(EMPTY_UNIT.to_owned()));
    let is_pattern = name.contains(WILD) && UnitName::from_user(&name.replace(WILD, "x")).is_ok();
    ensure!(
        !is_pattern,
        UsageError(format!(
            "{} is a pattern: name the units, or a template (x@.service) for all its instances; 'harden-why' lists \
             those with denials",
            escape_excerpt(name)
        ))
    );
    UnitName::from_user(name).with_context(|| format!("{} is not a unit name", escape_excerpt(name)))
}

/// Parses the name of one unit.
///
/// # Errors
/// The text is not a unit name, or names a template: only its instances run.
pub(crate) fn parse_instance_name(name: &str) -> anyhow::Result<UnitName> {
    require_instance(parse_unit_name(name)?)
}

/// Returns the name if it is no template's.
///
/// # Errors
/// The name is that of a template: only its instances run.
pub(crate) fn require_instance(name: UnitName) -> anyhow::Result<UnitName> {
    ensure!(
        !name.is_template(),
        UsageError(format!("{name} is a template: name an instance, as {}", name.as_str().replacen("@.", "@NAME.", 1)))
    );
    Ok(name)
}

/// Which units to show: a name, a template, or a pattern of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnitPattern {
    /// A unit, or all instances of a template.
    Name(UnitName),
    /// A pattern as systemctl takes it, for example `web-*`.
    Glob(String),
}

impl UnitPattern {
    /// Parses a name or pattern as a person writes it; without a suffix it means services.
    ///
    /// # Errors
    /// The text is neither.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        ensure!(!text.is_empty(), UsageError(EMPTY_UNIT.to_owned()));
        let name = if text.contains(WILD) { text.replace(WILD, "x") } else { text.to_owned() };
        let plain =
            UnitName::from_user(&name).with_context(|| format!("{} is not a unit name", escape_excerpt(text)))?;
        if !text.contains(WILD) {
            return Ok(Self::Name(plain));
        }
        let has_suffix = plain.as_str() == name;
        Ok(Self::Glob(if has_suffix { text.to_owned() } else { format!("{text}.service") }))
    }

    /// Whether the unit is one of those.
    pub(crate) fn matches(&self, unit: &UnitName) -> bool {
        match self {
            Self::Name(name) => is_named_by(name, unit),
            Self::Glob(glob) => matches_glob(glob.as_bytes(), unit.as_str().as_bytes()),
        }
    }
}

impl fmt::Display for UnitPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Glob(glob) => f.write_str(&escape_excerpt(glob)),
        }
    }
}

/// Whether a text matches a glob pattern (`glob(7)`), whose `*` also matches dots and dashes.
fn matches_glob(glob: &[u8], text: &[u8]) -> bool {
    match glob {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skipped| matches_glob(rest, &text[skipped..])),
        [first, rest @ ..] => {
            let Some((byte, after)) = text.split_first() else { return false };
            let class = (*first == b'[').then(|| rest.iter().skip(1).position(|&end| end == b']')).flatten();
            match class {
                Some(end) => class_contains(&rest[..=end], *byte) && matches_glob(&rest[end + 2..], after),
                None => (*first == b'?' || first == byte) && matches_glob(rest, after),
            }
        }
    }
}

/// Whether a class of a glob, without its brackets, contains a byte.
fn class_contains(class: &[u8], byte: u8) -> bool {
    let (negated, mut class) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let mut found = false;
    while let Some((&first, rest)) = class.split_first() {
        (found, class) = match rest {
            [b'-', last, rest @ ..] => (found || (first..=*last).contains(&byte), rest),
            rest => (found || first == byte, rest),
        };
    }
    found != negated
}

/// Returns whether a name matches a unit: it is the unit's own name, or its template's.
pub(crate) fn is_named_by(asked: &UnitName, unit: &UnitName) -> bool {
    asked == unit || unit.template_name().as_ref() == Some(asked)
}

/// Returns the unit's own name if `name` is an alias, according to the first manager that knows it. Incidents carry the
/// own name, because the unit's cgroup does.
pub(crate) async fn resolve_alias(name: &UnitName, asked: ManagerScope, managers: &Managers) -> Option<UnitName> {
    for manager in managers_to_ask(asked) {
        if let Some(own) = query_own_name(name, manager, managers).await {
            return Some(own).filter(|own| own != name);
        }
    }
    None
}

/// Returns the unit's own name (its `Id` property) in one manager.
pub(crate) async fn query_own_name(name: &UnitName, manager: Manager, managers: &Managers) -> Option<UnitName> {
    let manager = managers.connect(manager).await.ok()?;
    Some(manager.unit_properties(name).await.ok()?.id)
}

/// Notes that a name is an alias.
pub(crate) fn alias_note(name: &UnitName, own: &UnitName) -> Note {
    Note::new("alias", format!("{name} is an alias of {own}"))
}

/// Lists the managers to query for a unit without incidents.
pub(crate) fn managers_to_ask(asked: ManagerScope) -> Vec<Manager> {
    let own = Manager::User(nix::unistd::geteuid().as_raw());
    match asked {
        ManagerScope::System => vec![Manager::System],
        ManagerScope::Users => vec![own],
        ManagerScope::User(uid) => vec![Manager::User(uid)],
        ManagerScope::All => vec![Manager::System, own],
    }
}

/// Returns the latest sighting of any of these incidents, in milliseconds since the epoch.
pub(crate) fn latest_sighting(incidents: &[Incident]) -> Option<i64> {
    incidents
        .iter()
        .filter_map(|incident| if let Moment::At(millis) = incident.last { Some(millis) } else { None })
        .max()
}

/// Returns the scope that the options select.
///
/// # Errors
/// `--since` or `--until` is not a time.
pub(crate) fn parse_scope(units: &Units, clock: &LocalTime) -> anyhow::Result<IncidentScope> {
    let managers = ManagerScope::from_flags(units.managers);
    let boot = units.boot.then(boot_time_millis);
    let SightingTimes { since, until } = SightingTimes::parse(&units.times, clock)?;
    Ok(IncidentScope { managers, times: SightingTimes { since: since.max(boot), until } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_units_as_systemctl_does() {
        for (pattern, unit, expected) in [
            ("web", "web.service", true),
            ("web.socket", "web.service", false),
            ("echo@", "echo@0-1.service", true),
            ("echo@.service", "echo.service", false),
            ("web-*", "web-a.service", true),
            ("web-*", "web-a.socket", false),
            ("*", "a.service", true),
            ("*.socket", "a.socket", true),
            ("web-?", "web-ab.service", false),
            ("web-[a-c]", "web-b.service", true),
            ("web-[!a-c]", "web-b.service", false),
            ("[", "[.service", false),
        ] {
            let matched =
                UnitPattern::parse(pattern).is_ok_and(|parsed| unit.parse().is_ok_and(|unit| parsed.matches(&unit)));
            assert_eq!(matched, expected, "{pattern} {unit}");
        }
        assert!(UnitPattern::parse("a/b").is_err() && UnitPattern::parse("a b*").is_err());
    }
}
