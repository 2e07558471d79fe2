//! Alerts of many machines, folded by unit, directive, call and access.

use crate::audit::text::escape;
use crate::incidents::{Access, name_access};
use crate::outlet::message_ids::UNRECORDED_DEATH;
use crate::policy::Directive;
use crate::systemd::journal::gathered::GatheredAlert;
use std::collections::{BTreeMap, BTreeSet};

/// The most pairs of a row and a machine. Later alerts of further pairs are counted only.
const MOST_PAIRS: usize = 100_000;

/// The most corrections that are kept. Later ones retract no alert.
const MOST_CORRECTIONS: usize = 100_000;

/// Alerts of many machines. All texts are escaped.
#[derive(Debug, Default)]
pub(crate) struct FleetAlerts {
    pub(crate) rows: BTreeMap<FleetKey, FleetRow>,
    /// The machines with alerts.
    pub(crate) hosts: BTreeSet<String>,
    /// The number of alerts.
    pub(crate) alerts: u64,
    /// The number of alerts that no row counts.
    pub(crate) left_out: u64,
    /// The number of incidents that only summaries count.
    pub(crate) without_alert: u64,
    pairs: usize,
    /// The corrected deaths, with the time of the correction.
    corrections: BTreeSet<(DeathKey, u64)>,
}

/// A process that died without a record: its machine, manager, unit and pid.
type DeathKey = [Vec<u8>; 4];

/// What the machines of a row have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FleetKey {
    pub(crate) unit: String,
    pub(crate) manager: String,
    /// The directives that denied the call, joined; empty if none is known.
    pub(crate) directive: String,
    /// Empty for a death without a record.
    pub(crate) call: String,
    /// The kind of an access that failed; empty for a call that a filter denied.
    pub(crate) access: String,
    /// What the access could not reach: a path, a capability, an address.
    pub(crate) withheld: String,
}

/// The machines on which a unit was denied a call.
#[derive(Debug, Default)]
pub(crate) struct FleetRow {
    pub(crate) hosts: BTreeMap<String, HostAlerts>,
    /// The machines of each file and line that denied the call.
    pub(crate) origins: BTreeMap<Vec<String>, BTreeSet<String>>,
    /// The machines of each remedy.
    pub(crate) remedies: BTreeMap<Vec<String>, BTreeSet<String>>,
}

/// The alerts of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostAlerts {
    pub(crate) alerts: u64,
    /// The first and the latest, in microseconds since the epoch.
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl FleetAlerts {
    /// Adds a correction. It retracts an earlier alert of the same death, which [`add`](Self::add) then ignores.
    pub(crate) fn add_correction(&mut self, correction: &GatheredAlert) {
        if self.corrections.len() < MOST_CORRECTIONS {
            self.corrections.insert((death_key(correction), correction.at));
        }
    }

    /// Whether a later correction retracts the alert. Each correction retracts one alert. An alert that counts several
    /// deaths stays: the others had no record.
    fn is_retracted(&mut self, alert: &GatheredAlert) -> bool {
        if alert.id != UNRECORDED_DEATH.as_bytes() || number(&alert.count) > 1 {
            return false;
        }
        let key = death_key(alert);
        let later = self.corrections.range((key.clone(), alert.at)..=(key, u64::MAX)).next().cloned();
        later.is_some_and(|correction| self.corrections.remove(&correction))
    }

    /// Adds an alert or a summary.
    pub(crate) fn add(&mut self, alert: &GatheredAlert) {
        if alert.is_summary() {
            self.without_alert = self.without_alert.saturating_add(number(&alert.incidents));
        } else if !self.is_retracted(alert) {
            self.add_all(alert, HostAlerts { alerts: 1, first: alert.at, last: alert.at });
        }
    }

    /// Adds the alerts of one machine that are alike, or denials that would have had such alerts.
    pub(crate) fn add_all(&mut self, alert: &GatheredAlert, more: HostAlerts) {
        self.alerts = self.alerts.saturating_add(more.alerts);
        let texts = |values: &[Vec<u8>]| values.iter().map(|value| show(value)).collect::<Vec<_>>();
        let host = show(&alert.host);
        let key = FleetKey {
            unit: show(&alert.unit),
            manager: show(&alert.manager),
            directive: texts(&alert.directives).join(", "),
            call: show(&alert.call),
            access: show(&alert.access),
            withheld: name_withheld(alert),
        };
        let is_known = self.rows.get(&key).is_some_and(|row| row.hosts.contains_key(&host));
        if !is_known {
            if self.pairs == MOST_PAIRS {
                self.left_out = self.left_out.saturating_add(more.alerts);
                return;
            }
            self.pairs += 1;
            self.hosts.insert(host.clone());
        }
        let row = self.rows.entry(key).or_default();
        let seen = row.hosts.entry(host.clone()).or_insert(HostAlerts { alerts: 0, ..more });
        seen.alerts = seen.alerts.saturating_add(more.alerts);
        let is_newest = more.last >= seen.last;
        (seen.first, seen.last) = (seen.first.min(more.first), seen.last.max(more.last));
        if !is_newest {
            return;
        }
        // The newest settings of a machine count. The files of a machine come in any order.
        move_host(&mut row.origins, texts(&alert.origins), &host);
        let is_safe = alert.remedy.iter().all(|line| sets_sandbox(line));
        move_host(&mut row.remedies, if is_safe { texts(&alert.remedy) } else { Vec::new() }, &host);
    }
}

/// Escapes a value. Its sender doubled the backslashes already.
fn show(value: &[u8]) -> String {
    escape(value).replace("\\\\", "\\")
}

/// Returns the number in a field; 0 if it holds none.
fn number(field: &[u8]) -> u64 {
    str::from_utf8(field).ok().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// Returns what an access could not reach, as answers name it.
fn name_withheld(alert: &GatheredAlert) -> String {
    if !alert.path.is_empty() {
        return show(&alert.path);
    }
    let [kind, detail] = [&alert.access, &alert.detail].map(|value| show(value));
    Access::from_parts(&kind, b"", &detail).map_or(detail, |access| name_access(&access))
}

/// Whether a remedy's line sets a sandbox. A machine can send any entry, and what reads the answer may write the lines into
/// files: no remedy has `ExecStart=`, or another user, shows a file in the place of another, or continues on the next line.
fn sets_sandbox(line: &[u8]) -> bool {
    let Some((key, value)) = str::from_utf8(line).ok().and_then(|line| line.split_once('=')) else { return false };
    let is_safe = |directive| match directive {
        Directive::User | Directive::DynamicUser => false,
        Directive::BindPaths | Directive::BindReadOnlyPaths => !value.contains(':'),
        _ => true,
    };
    !value.contains('\\') && Directive::from_key(key).is_some_and(is_safe)
}

fn death_key(alert: &GatheredAlert) -> DeathKey {
    [&alert.host, &alert.manager, &alert.unit, &alert.pid].map(Clone::clone)
}

/// Makes a machine count for these values alone; without any, for none.
fn move_host(variants: &mut BTreeMap<Vec<String>, BTreeSet<String>>, values: Vec<String>, host: &str) {
    if variants.get(&values).is_some_and(|hosts| hosts.contains(host)) {
        return;
    }
    variants.retain(|_, hosts| {
        hosts.remove(host);
        !hosts.is_empty()
    });
    if !values.is_empty() {
        variants.entry(values).or_default().insert(host.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlet::message_ids::CORRECTION;

    fn alert(at: u64, host: &str, origin: &str) -> GatheredAlert {
        GatheredAlert {
            at,
            host: host.into(),
            unit: b"a.service".to_vec(),
            manager: b"system".to_vec(),
            call: b"socket".to_vec(),
            directives: vec![b"SystemCallFilter".to_vec()],
            origins: vec![origin.into()],
            remedy: vec![b"SystemCallFilter=socket".to_vec()],
            ..GatheredAlert::default()
        }
    }

    fn death(at: u64, pid: &str, count: &str) -> GatheredAlert {
        let [pid, count] = [pid, count].map(|value| value.as_bytes().to_vec());
        let base = GatheredAlert { call: Vec::new(), directives: Vec::new(), ..alert(at, "one", "") };
        GatheredAlert { id: UNRECORDED_DEATH.into(), pid, count, ..base }
    }

    #[test]
    fn remedy_of_hostile_machine_with_a_command_or_a_user_is_left_out() {
        let remedies = |lines: &[&str]| {
            let mut fleet = FleetAlerts::default();
            let remedy = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
            fleet.add(&GatheredAlert { remedy, ..alert(1, "one", "/etc/a:1") });
            let rows: Vec<FleetRow> = fleet.rows.into_values().collect();
            assert_eq!(rows[0].hosts["one"].alerts, 1);
            rows[0].remedies.keys().cloned().collect::<Vec<_>>()
        };
        let opened = ["SystemCallFilter=socket", "BindPaths="];
        assert_eq!(remedies(&opened), [opened]);
        for evil in [
            "ExecStartPre=/tmp/x",
            "User=root",
            "DynamicUser=no",
            "BindReadOnlyPaths=/var/tmp/x:/usr/sbin/nginx",
            "SystemCallFilter=mount \\",
            "[Service]",
            "SystemCallFilter",
            "",
            "\u{ff}=x",
        ] {
            assert_eq!(remedies(&[opened[0], evil]), [[""; 0]; 0], "{evil:?}");
        }
    }

    #[test]
    fn corrected_death_is_not_counted_and_others_are() {
        let mut fleet = FleetAlerts::default();
        let correction = |at, pid: &str| GatheredAlert { at, id: CORRECTION.into(), ..death(at, pid, "") };
        for (at, pid) in [(20, "7"), (20, "8"), (20, "9")] {
            fleet.add_correction(&correction(at, pid));
        }
        let before = fleet.alerts;
        fleet.add(&death(10, "7", "1"));
        assert_eq!((before, fleet.alerts, fleet.rows.len()), (0, 0, 0), "the record's own alert counts instead");
        fleet.add(&death(11, "7", "1"));
        assert_eq!(fleet.alerts, 1, "one correction retracts one alert");
        fleet.add(&death(12, "8", "3"));
        assert_eq!(fleet.alerts, 2, "two more deaths had no record");
        fleet.add(&death(21, "9", "1"));
        assert_eq!(fleet.alerts, 3, "the process of a later death has the pid of an earlier one");
        let other_host = GatheredAlert { host: b"two".to_vec(), ..death(10, "9", "1") };
        fleet.add(&other_host);
        assert_eq!(fleet.alerts, 4);
    }

    #[test]
    fn summary_counts_its_incidents_and_makes_no_row() {
        let mut fleet = FleetAlerts::default();
        for incidents in ["7", "18446744073709551615", "many"] {
            fleet.add(&GatheredAlert { incidents: incidents.into(), ..GatheredAlert::default() });
        }
        assert_eq!((fleet.without_alert, fleet.alerts, fleet.rows.len(), fleet.hosts.len()), (u64::MAX, 0, 0, 0));
    }

    #[test]
    fn accesses_of_one_unit_have_a_row_for_each_path_and_capability() {
        let mut fleet = FleetAlerts::default();
        let access = |kind: &str, path: &str, detail: &str| {
            let [access, path, detail] = [kind, path, detail].map(|value| value.as_bytes().to_vec());
            GatheredAlert { access, path, detail, ..alert(1, "one", "") }
        };
        for _ in 0..2 {
            fleet.add(&access("read-only-path", r"/var/a\x0ab", ""));
            fleet.add(&access("read-only-path", "/var/c", ""));
            fleet.add(&access("capability", "", "CAP_CHOWN bounding"));
            fleet.add(&access("made-up", "", "\u{1b}"));
        }
        let withheld: Vec<&str> = fleet.rows.keys().map(|key| key.withheld.as_str()).collect();
        assert_eq!(withheld, ["CAP_CHOWN", r"\x1b", r"/var/a\x0ab", "/var/c"]);
        assert!(fleet.rows.values().all(|row| row.hosts["one"].alerts == 2));
    }

    #[test]
    fn alerts_of_two_machines_share_a_row() {
        let mut fleet = FleetAlerts::default();
        for alert in [alert(5, "one", "/a:1"), alert(7, "two", "/b:2"), alert(9, "one", "/a:1")] {
            fleet.add(&alert);
        }
        let (key, row) = fleet.rows.first_key_value().unwrap();
        assert_eq!((fleet.rows.len(), fleet.hosts.len(), fleet.alerts), (1, 2, 3));
        assert_eq!((key.directive.as_str(), key.call.as_str()), ("SystemCallFilter", "socket"));
        assert_eq!(row.hosts["one"], HostAlerts { alerts: 2, first: 5, last: 9 });
        assert_eq!((row.origins.len(), row.remedies.len()), (2, 1), "the settings differ, and one remedy helps");
    }

    #[test]
    fn newest_settings_of_a_machine_count() {
        let mut fleet = FleetAlerts::default();
        fleet.add(&alert(5, "one", "/a:1"));
        fleet.add(&alert(7, "one", "/a:2"));
        fleet.add(&alert(6, "one", "/a:3"));
        let row = fleet.rows.values().next().unwrap();
        assert_eq!(row.origins.keys().flatten().collect::<Vec<_>>(), ["/a:2"]);
    }

    #[test]
    fn remedy_that_the_newest_alert_lacks_is_left_out() {
        let mut fleet = FleetAlerts::default();
        fleet.add(&alert(5, "one", "/a:1"));
        fleet.add(&GatheredAlert { remedy: Vec::new(), ..alert(7, "one", "/a:2") });
        assert!(fleet.rows.values().all(|row| row.remedies.is_empty() && row.origins.len() == 1));
    }

    #[test]
    fn made_up_machines_leave_memory_bounded() {
        let mut fleet = FleetAlerts::default();
        for number in 0..MOST_PAIRS + 5 {
            fleet.add(&alert(1, &format!("\u{1b}{number}"), "/a:1"));
        }
        assert_eq!((fleet.left_out, fleet.hosts.len()), (5, MOST_PAIRS));
        assert!(fleet.hosts.iter().all(|host| host.starts_with("\\x1b")));
    }
}
