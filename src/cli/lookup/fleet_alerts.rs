//! Alerts of many machines, folded by unit, directive and call.

use crate::audit::text::escape;
use crate::systemd::journal::gathered::GatheredAlert;
use std::collections::{BTreeMap, BTreeSet};

/// The most pairs of a row and a machine. Later alerts of further pairs are counted only.
const MOST_PAIRS: usize = 100_000;

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
    pairs: usize,
}

/// What the machines of a row have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FleetKey {
    pub(crate) unit: String,
    pub(crate) manager: String,
    /// The directives that denied the call, joined; empty if none is known.
    pub(crate) directive: String,
    pub(crate) call: String,
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
    /// Adds an alert.
    pub(crate) fn add(&mut self, alert: &GatheredAlert) {
        self.alerts += 1;
        let texts = |values: &[Vec<u8>]| values.iter().map(|value| escape(value)).collect::<Vec<_>>();
        let host = escape(&alert.host);
        let key = FleetKey {
            unit: escape(&alert.unit),
            manager: escape(&alert.manager),
            directive: texts(&alert.directives).join(", "),
            call: escape(&alert.call),
        };
        let is_known = self.rows.get(&key).is_some_and(|row| row.hosts.contains_key(&host));
        if !is_known {
            if self.pairs == MOST_PAIRS {
                self.left_out += 1;
                return;
            }
            self.pairs += 1;
            self.hosts.insert(host.clone());
        }
        let row = self.rows.entry(key).or_default();
        let at = alert.at;
        let seen = row.hosts.entry(host.clone()).or_insert(HostAlerts { alerts: 0, first: at, last: at });
        seen.alerts += 1;
        let is_newest = at >= seen.last;
        (seen.first, seen.last) = (seen.first.min(at), seen.last.max(at));
        if !is_newest {
            return;
        }
        // The newest settings of a machine count. The files of a machine come in any order.
        for (variants, values) in [(&mut row.origins, &alert.origins), (&mut row.remedies, &alert.remedy)] {
            move_host(variants, texts(values), &host);
        }
    }
}

/// Makes a machine count for these values alone.
fn move_host(variants: &mut BTreeMap<Vec<String>, BTreeSet<String>>, values: Vec<String>, host: &str) {
    if values.is_empty() || variants.get(&values).is_some_and(|hosts| hosts.contains(host)) {
        return;
    }
    variants.retain(|_, hosts| {
        hosts.remove(host);
        !hosts.is_empty()
    });
    variants.entry(values).or_default().insert(host.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

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
        }
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
    fn made_up_machines_leave_memory_bounded() {
        let mut fleet = FleetAlerts::default();
        for number in 0..MOST_PAIRS + 5 {
            fleet.add(&alert(1, &format!("\u{1b}{number}"), "/a:1"));
        }
        assert_eq!((fleet.left_out, fleet.hosts.len()), (5, MOST_PAIRS));
        assert!(fleet.hosts.iter().all(|host| host.starts_with("\\x1b")));
    }
}
