//! A unit's properties in its manager: its files, its state, and the settings that install seccomp filters.

use super::active_state::has_ended;
use super::held_lines::held_lines;
use super::known_properties::{KnownProperties, is_known};
use super::property_map::{PropertyMap, take};
use crate::policy::Namespaces;
use crate::policy::capabilities::{CapabilitySet, find_withheld};
use crate::policy::relevant_lines::exec_section;
use crate::policy::{Directive, ManagerContext, Policy, Settings, SyscallFilter, UnitFile};
use crate::syscalls::Groups;
use crate::units::UnitName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use zbus::OwnedVariant;

/// An allow list or a deny list (D-Bus type `bas`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameList {
    /// Whether the list allows only its names; otherwise it denies its names.
    pub allow: bool,
    /// The names, with groups expanded; a name in a deny list can end in `:ERRNO`.
    pub names: Vec<String>,
}

/// A unit's properties in its manager. Properties that this systemd lacks are `None`, or missing.
///
/// The texts come from the manager and must be escaped when shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitProperties {
    /// The unit's own name. An alias resolves to it.
    pub id: UnitName,
    /// `loaded`, `masked`, `bad-setting`, `error`, …
    pub load_state: String,
    /// `active`, `failed`, `inactive`, …
    pub active_state: String,
    /// `running`, `exited`, `dead`, …: the state in terms of the unit type.
    pub sub_state: String,
    /// The unit file.
    pub fragment: Option<PathBuf>,
    /// The drop-ins, in merge order.
    pub dropins: Vec<PathBuf>,
    /// Whether a file of the unit changed since the manager loaded it.
    pub need_daemon_reload: bool,
    /// When the manager last read all files, in microseconds since the epoch. Asked only if it has to reread them.
    pub units_loaded_us: Option<u64>,
    /// Whether the unit was created at run time (`systemd-run(1)`) and vanishes when it stops.
    pub transient: bool,
    /// Whether users may start the unit; if not, only other units may (`RefuseManualStart=`).
    pub can_start: Option<bool>,
    /// Whether only other units may stop the unit.
    pub refuse_manual_stop: Option<bool>,
    /// The id of the latest start.
    pub invocation_id: Option<[u8; 16]>,
    /// The start time of the latest main process, in microseconds since the epoch.
    pub exec_main_start_us: Option<u64>,
    /// The main process, while it runs.
    pub main_pid: Option<u32>,
    /// When the unit last left the state `inactive` or `failed`, in microseconds since the epoch.
    pub inactive_exit_us: Option<u64>,
    /// `SystemCallFilter=`. `~X:ERRNO` entries of an allow list are missing, since systemd does not report them.
    pub system_call_filter: Option<NameList>,
    /// `SystemCallErrorNumber=`: 0 and 2147483646 kill the process.
    pub system_call_error_number: Option<i32>,
    /// `SystemCallArchitectures=`, empty for all.
    pub system_call_architectures: Option<Vec<String>>,
    /// `SystemCallLog=`.
    pub system_call_log: Option<NameList>,
    /// `RestrictAddressFamilies=`.
    pub restrict_address_families: Option<NameList>,
    /// `RestrictNamespaces=`: the `CLONE_NEW*` flags that stay allowed.
    pub restrict_namespaces: Option<u64>,
    /// `User=`, empty for root.
    pub user: Option<String>,
    /// `CapabilityBoundingSet=`: a bit for each number.
    pub capability_bounding_set: Option<u64>,
    /// `AmbientCapabilities=`: a bit for each number.
    pub ambient_capabilities: Option<u64>,
    /// `NoNewPrivileges=`.
    pub no_new_privileges: Option<bool>,
    /// The [switches](Directive::switches) that this systemd knows.
    pub switches: BTreeMap<Directive, bool>,
    /// The lines of directives that withhold paths, devices and addresses.
    pub withholding_lines: Vec<String>,
    /// The properties whose type is not the one in `org.freedesktop.systemd1(5)`, so that their values are unknown.
    pub unparsed: BTreeSet<&'static str>,
}

impl UnitProperties {
    /// Whether the unit runs or is about to run, for example by an automatic restart.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !has_ended(&self.active_state)
    }

    /// Whether the main process ended and the unit is still active (`RemainAfterExit=`, `systemd.service(5)`).
    /// Processes that the main process started may still run.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.sub_state == "exited"
    }

    /// Parses the D-Bus properties of the unit and its type.
    pub(super) fn parse(asked: &UnitName, KnownProperties(properties): &KnownProperties) -> Self {
        let mut reader = PropertyReader { properties, unparsed: BTreeSet::new() };
        Self {
            id: reader.text("Id").and_then(|id| id.parse().ok()).unwrap_or_else(|| asked.clone()),
            load_state: reader.text("LoadState").unwrap_or_default(),
            active_state: reader.text("ActiveState").unwrap_or_default(),
            sub_state: reader.text("SubState").unwrap_or_default(),
            fragment: reader.text("FragmentPath").filter(|path| !path.is_empty()).map(PathBuf::from),
            dropins: reader
                .get::<Vec<String>>("DropInPaths")
                .unwrap_or_default()
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            need_daemon_reload: reader.get("NeedDaemonReload").unwrap_or_default(),
            units_loaded_us: None,
            transient: reader.get("Transient").unwrap_or_default(),
            can_start: reader.get("CanStart"),
            refuse_manual_stop: reader.get("RefuseManualStop"),
            invocation_id: reader.get::<Vec<u8>>("InvocationID").and_then(|id| id.try_into().ok()),
            exec_main_start_us: reader.get("ExecMainStartTimestamp").filter(|&start| start != 0),
            main_pid: reader.get("MainPID").filter(|&pid| pid != 0),
            inactive_exit_us: reader.get("InactiveExitTimestamp").filter(|&exit| exit != 0),
            system_call_filter: reader.list("SystemCallFilter"),
            system_call_error_number: reader.get("SystemCallErrorNumber"),
            system_call_architectures: reader.get("SystemCallArchitectures"),
            system_call_log: reader.list("SystemCallLog"),
            restrict_address_families: reader.list("RestrictAddressFamilies"),
            restrict_namespaces: reader.get("RestrictNamespaces"),
            user: reader.text("User"),
            capability_bounding_set: reader.get("CapabilityBoundingSet"),
            ambient_capabilities: reader.get("AmbientCapabilities"),
            no_new_privileges: reader.get("NoNewPrivileges"),
            switches: Directive::switches().filter_map(|switch| Some((switch, reader.get(switch.key())?))).collect(),
            withholding_lines: held_lines(properties),
            unparsed: reader.unparsed,
        }
    }
}

impl UnitProperties {
    /// Builds the policy from these properties alone, without the unit's files. systemd does not report all settings:
    /// for example, `~X:ERRNO` entries of an allow list are missing.
    #[must_use]
    pub fn policy(&self, surroundings: ManagerContext, groups: &Groups) -> Policy {
        let file = UnitFile::parse(Path::new("as systemd holds it"), self.unit_file_lines().as_bytes());
        let settings = Settings::new(&self.id, Some(file), Vec::new());
        let errno = self.system_call_error_number.unwrap_or_default();
        let held = |list: &NameList| SyscallFilter::from_manager(list.allow, &list.names, errno, groups);
        let filter = self.system_call_filter.as_ref().and_then(held);
        Policy::new(settings, groups).with_context(surroundings, groups).with_filter(filter)
    }

    /// The properties, except the filter and `SystemCallLog=`, as lines of a unit file.
    fn unit_file_lines(&self) -> String {
        let words = |names: &[String]| {
            let plain = |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            names.iter().filter(plain).map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        let mut lines = format!("[{}]\n", exec_section(&self.id));
        let mut line = |key: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{key}={value}");
        };
        for (directive, _) in self.switches.iter().filter(|(_, on)| **on) {
            line(directive.key(), "yes");
        }
        let on = self.switches.iter().filter(|(_, on)| **on).map(|(directive, _)| *directive);
        // systemd shows the set without what directives withhold. A remedy that relaxes one gives that back.
        let bounding = self.capability_bounding_set.map(CapabilitySet::from_bits);
        let bounding = bounding.map(|set| on.fold(set, |set, directive| set.with(find_withheld(directive))));
        let ambient = self.ambient_capabilities.map(CapabilitySet::from_bits);
        for (key, set) in [("CapabilityBoundingSet", bounding), ("AmbientCapabilities", ambient)] {
            if let Some(set) = set {
                line(key, &set.names().collect::<Vec<_>>().join(" "));
            }
        }
        if self.no_new_privileges == Some(true) {
            line("NoNewPrivileges", "yes");
        }
        if let Some(user) = &self.user {
            line("User", &words(std::slice::from_ref(user)));
        }
        match &self.restrict_address_families {
            Some(NameList { allow: true, names }) if names.is_empty() => line("RestrictAddressFamilies", "none"),
            Some(NameList { allow: true, names }) => line("RestrictAddressFamilies", &words(names)),
            Some(NameList { names, .. }) if !names.is_empty() => {
                line("RestrictAddressFamilies", &format!("~{}", words(names)));
            }
            _ => {}
        }
        let retained = self.restrict_namespaces.unwrap_or(u64::MAX);
        let kept: Vec<&str> =
            Namespaces::FLAGS.iter().filter(|(_, flag)| retained & flag != 0).map(|(name, _)| *name).collect();
        match kept.len() {
            0 => line("RestrictNamespaces", "yes"),
            all if all == Namespaces::FLAGS.len() => {}
            _ => line("RestrictNamespaces", &kept.join(" ")),
        }
        if let Some(listed) = self.system_call_architectures.as_ref().filter(|listed| !listed.is_empty()) {
            line("SystemCallArchitectures", &words(listed));
        }
        lines + &self.withholding_lines.join("\n")
    }
}

/// Reads typed values, and collects the names of properties whose type is unexpected.
struct PropertyReader<'a> {
    properties: &'a PropertyMap,
    unparsed: BTreeSet<&'static str>,
}

impl PropertyReader<'_> {
    fn get<T: TryFrom<OwnedVariant>>(&mut self, name: &'static str) -> Option<T> {
        debug_assert!(is_known(name), "{name}");
        let value = take(self.properties, name);
        if value.is_none() && self.properties.contains_key(name) {
            self.unparsed.insert(name);
        }
        value
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        self.get(name)
    }

    fn list(&mut self, name: &'static str) -> Option<NameList> {
        self.get(name).map(|(allow, names)| NameList { allow, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use zbus::Variant;

    /// Returns the properties as they arrive from a manager.
    fn properties(list: Vec<(&str, Variant<'static>)>) -> KnownProperties {
        let others = [("ExecStart", vec![("/bin/true", vec!["/bin/true"], false)].into()), ("TasksMax", 7_u64.into())];
        let all: HashMap<&str, Variant<'static>> = list.into_iter().chain(others).collect();
        let message = zbus::Message::method_call("/", "GetAll").build(&all).unwrap();
        let known: KnownProperties = message.body().deserialize().unwrap();
        assert_eq!(known.0.len(), all.len() - 2, "only those that are read");
        known
    }

    #[test]
    fn properties_are_parsed_from_dbus_values() {
        let name = "alias.service".parse().unwrap();
        let facts = UnitProperties::parse(
            &name,
            &properties(vec![
                ("Id", "real.service".into()),
                ("LoadState", "loaded".into()),
                ("ActiveState", "failed".into()),
                ("FragmentPath", "/etc/systemd/system/real.service".into()),
                ("DropInPaths", vec!["/etc/systemd/system/real.service.d/a.conf"].into()),
                ("NeedDaemonReload", true.into()),
                ("InvocationID", vec![7_u8; 16].into()),
                ("ExecMainStartTimestamp", 5_u64.into()),
                ("SystemCallFilter", (true, vec!["read", "write"]).into()),
                ("SystemCallErrorNumber", 1_i32.into()),
                ("SystemCallArchitectures", vec!["native"].into()),
                ("RestrictNamespaces", 0_u64.into()),
                ("LockPersonality", true.into()),
                ("ProtectClock", false.into()),
            ]),
        );
        assert_eq!(facts.id.as_str(), "real.service");
        assert_eq!(facts.fragment.as_deref(), Some("/etc/systemd/system/real.service".as_ref()));
        assert_eq!(facts.dropins, [PathBuf::from("/etc/systemd/system/real.service.d/a.conf")]);
        assert!(facts.need_daemon_reload);
        assert_eq!(facts.invocation_id, Some([7; 16]));
        assert_eq!(facts.exec_main_start_us, Some(5));
        let names = vec!["read".to_owned(), "write".to_owned()];
        assert_eq!(facts.system_call_filter, Some(NameList { allow: true, names }));
        assert_eq!(facts.system_call_error_number, Some(1));
        assert_eq!(facts.system_call_architectures, Some(vec!["native".to_owned()]));
        assert_eq!(facts.restrict_namespaces, Some(0));
        assert_eq!(
            facts.switches,
            BTreeMap::from([(Directive::LockPersonality, true), (Directive::ProtectClock, false)])
        );
    }

    #[test]
    fn properties_make_policy() {
        let groups = Groups::embedded();
        let refusing = |name: &str, list: Vec<(&str, Variant<'static>)>| {
            let facts = UnitProperties::parse(&name.parse().unwrap(), &properties(list));
            facts.policy(ManagerContext::default(), &groups).refusing_directives()
        };
        assert_eq!(refusing("a.service", vec![]), []);
        let no_list = || (false, Vec::<&str>::new()).into();
        let nothing = [
            ("SystemCallFilter", no_list()),
            ("SystemCallErrorNumber", 0_i32.into()),
            ("RestrictAddressFamilies", no_list()),
            ("RestrictNamespaces", 0x7e02_0080_u64.into()),
            ("ProtectClock", false.into()),
        ];
        assert_eq!(refusing("a.service", nothing.into()), []);
        let all: Vec<(&str, Variant<'static>)> = vec![
            ("SystemCallFilter", (true, vec!["read", "write"]).into()),
            ("SystemCallErrorNumber", 1_i32.into()),
            ("RestrictAddressFamilies", (true, vec!["AF_UNIX"]).into()),
            ("RestrictNamespaces", 0x0002_0000_u64.into()),
            ("ProtectClock", true.into()),
        ];
        let (found, mount): (Vec<Directive>, _) = (
            refusing("a.service", all),
            refusing(
                "a.mount",
                vec![
                    ("SystemCallFilter", (false, vec!["chown:EPERM"]).into()),
                    ("SystemCallErrorNumber", 2_147_483_646_i32.into()),
                ],
            ),
        );
        let names: BTreeSet<&str> = found.iter().map(|directive| directive.key()).collect();
        let expected = ["ProtectClock", "RestrictAddressFamilies", "RestrictNamespaces", "SystemCallFilter"];
        assert_eq!(names, BTreeSet::from(expected));
        assert_eq!(mount, [Directive::SystemCallFilter]);
        // Killing leaves a record.
        let kills = [("SystemCallFilter", (true, vec!["read"]).into()), ("SystemCallErrorNumber", 0_i32.into())];
        assert_eq!(refusing("a.service", kills.into()), []);
    }

    #[test]
    fn properties_tell_the_capabilities_of_a_unit_without_files() {
        let can = |list: Vec<(&str, Variant<'static>)>| {
            let facts = UnitProperties::parse(&"a.service".parse().unwrap(), &properties(list));
            let policy = facts.policy(ManagerContext::default(), &Groups::embedded());
            ["CAP_CHOWN", "CAP_SYS_ADMIN"].map(|name| policy.settings.can_use_capability(name))
        };
        assert_eq!(can(vec![]), [true, true]);
        assert_eq!(can(vec![("CapabilityBoundingSet", u64::MAX.into())]), [true, true]);
        assert_eq!(can(vec![("CapabilityBoundingSet", 0_u64.into())]), [false, false]);
        assert_eq!(can(vec![("CapabilityBoundingSet", 1_u64.into())]), [true, false]);
        let user = |ambient: u64| {
            vec![("User", "web".into()), ("NoNewPrivileges", true.into()), ("AmbientCapabilities", ambient.into())]
        };
        assert_eq!(can(user(0)), [false, false]);
        assert_eq!(can(user(1 << 21)), [false, true]);
        assert_eq!(can(vec![("User", "".into()), ("NoNewPrivileges", true.into())]), [true, true], "root");
    }

    #[test]
    fn capability_that_a_directive_withholds_returns_with_a_remedy_that_relaxes_it() {
        let shown = !(1_u64 << 25 | 1 << 35);
        let list = vec![("CapabilityBoundingSet", shown.into()), ("ProtectClock", true.into())];
        let facts = UnitProperties::parse(&"a.service".parse().unwrap(), &properties(list));
        let groups = Groups::embedded();
        let policy = facts.policy(ManagerContext::default(), &groups);
        assert!(!policy.settings.can_use_capability("CAP_SYS_TIME"));
        let relaxed =
            policy.with_dropin(Path::new("/etc/a.service.d/zz.conf"), b"[Service]\nProtectClock=no\n", &groups);
        assert!(relaxed.settings.can_use_capability("CAP_SYS_TIME"));
    }

    #[test]
    fn property_of_wrong_type_is_noticed_for_every_filter() {
        let filters = || Directive::ALL.iter().filter(|directive| directive.filters_calls());
        let odd = filters().map(|directive| (directive.key(), 1_u8.into())).collect();
        let facts = UnitProperties::parse(&"a.service".parse().unwrap(), &properties(odd));
        assert_eq!(facts.unparsed, filters().map(|directive| directive.key()).collect());
    }

    #[test]
    fn newline_in_property_adds_no_unit_file_line() {
        let unparsed = (true, vec!["AF_UNIX\nProtectClock=yes"]).into();
        let facts = UnitProperties::parse(
            &"a.service".parse().unwrap(),
            &properties(vec![("RestrictAddressFamilies", unparsed)]),
        );
        assert_eq!(facts.unit_file_lines(), "[Service]\nRestrictAddressFamilies=\n");
    }

    #[test]
    fn missing_property_or_wrong_type_is_unknown() {
        let name: UnitName = "a.service".parse().unwrap();
        let unparsed = properties(vec![
            ("Id", "../etc".into()),
            ("FragmentPath", "".into()),
            ("DropInPaths", 1_u8.into()),
            ("InvocationID", vec![7_u8; 3].into()),
            ("SystemCallFilter", "read".into()),
            ("SystemCallErrorNumber", 1_u64.into()),
            ("LockPersonality", 1_u32.into()),
        ]);
        let facts = UnitProperties::parse(&name, &unparsed);
        assert_eq!(
            UnitProperties { unparsed: BTreeSet::new(), ..facts.clone() },
            UnitProperties::parse(&name, &KnownProperties::default())
        );
        let unparsed = ["DropInPaths", "LockPersonality", "SystemCallErrorNumber", "SystemCallFilter"];
        assert_eq!(facts.unparsed, BTreeSet::from(unparsed));
        assert_eq!(facts.id, name);
        assert_eq!((facts.fragment, facts.system_call_filter, facts.switches.len()), (None, None, 0));
    }
}
