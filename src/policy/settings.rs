//! A unit's settings that restrict what the unit's processes may do, merged from its files in systemd's order.

use super::call_list::{CallList, Dialect};
use super::capabilities::find_withheld;
use super::directive::{Directive, Rule, ValueKind};
use super::effect::DefaultEffect;
use super::exec_command;
use super::exec_command::ExecCommand;
use super::hardening_keys::{current_key, is_hardening_key};
use super::lists::{Architectures, Namespaces, parse_boolean};
use super::program_settings;
use super::program_settings::ProgramSettings;
use super::sandbox::word_value::parse_word;
use super::set_up_keys::is_set_up_key;
use super::unit_file::{Assignment, FileNote, Origin, UnitFile};
use crate::audit::text::escape_excerpt;
use crate::syscalls::Groups;
use crate::units::UnitName;
use std::collections::BTreeMap;
use std::path::Path;

/// The limit on notes kept for a unit. Further notes are only counted.
const MOST_NOTES: usize = 200;

/// The key that sets the user of a unit's processes.
const USER: &str = "User";

/// A yes-or-no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Its last valid value.
    pub on: bool,
    /// The line of that value.
    pub origin: Origin,
}

/// A unit's settings. The struct keeps the files, so that it can add or remove a drop-in and merge the files again.
#[derive(Debug, Clone)]
pub struct Settings {
    name: UnitName,
    section: &'static str,
    fragment: Option<UnitFile>,
    dropins: Vec<UnitFile>,
    switches: BTreeMap<Directive, Switch>,
    default_effect: DefaultEffect,
    namespaces: Option<Namespaces>,
    architectures: Architectures,
    commands: Vec<ExecCommand>,
    user: Option<Box<str>>,
    program: ProgramSettings,
    notes: Vec<FileNote>,
}

impl Settings {
    /// The settings of a unit from its files, with drop-ins in systemd's merge order. A unit without
    /// processes (a timer, a target) has no settings.
    #[must_use]
    pub fn new(name: &UnitName, fragment: Option<UnitFile>, dropins: Vec<UnitFile>) -> Self {
        Self::from_files(name.clone(), fragment, dropins)
    }

    fn from_files(name: UnitName, fragment: Option<UnitFile>, dropins: Vec<UnitFile>) -> Self {
        let section = exec_section(&name);
        let relevant = |mut file: UnitFile| {
            for line in &mut file.assignments {
                let now = current_key(&line.key);
                if now != &*line.key {
                    line.key = now.into();
                }
            }
            file.assignments.retain(|line| &*line.section == section);
            file.notes.extend(file.assignments.iter().filter_map(describe_mistyped_key));
            file.assignments.retain(|line| is_relevant(&line.key));
            file
        };
        let until_refused = |mut file: UnitFile| {
            // The drop-in's earlier lines count, and other drop-ins.
            if let Some(at) = file.assignments.iter().position(is_refused) {
                file.assignments.truncate(at + 1);
            }
            file
        };
        let mut settings = Self {
            name,
            section,
            fragment: fragment.map(relevant),
            dropins: dropins.into_iter().map(relevant).map(until_refused).collect(),
            switches: BTreeMap::new(),
            default_effect: DefaultEffect::default(),
            namespaces: None,
            architectures: Architectures::default(),
            commands: Vec::new(),
            user: None,
            program: ProgramSettings::default(),
            notes: Vec::new(),
        };
        settings.merge();
        settings
    }

    /// The settings with one more drop-in, inserted by its file name. It replaces a drop-in of the same file name.
    #[must_use]
    pub fn with_dropin(&self, path: &Path, content: &[u8]) -> Self {
        let file = UnitFile::parse(path, content);
        let mut dropins = self.dropins.clone();
        let at = dropins.partition_point(|other| other.path.file_name() < path.file_name());
        match dropins.get_mut(at) {
            Some(other) if other.path.file_name() == path.file_name() => *other = file,
            _ => dropins.insert(at, file),
        }
        Self::from_files(self.name.clone(), self.fragment.clone(), dropins)
    }

    /// The settings with more lines at the end of the unit file.
    #[must_use]
    pub fn with_fragment_lines(&self, content: &[u8]) -> Self {
        let mut fragment = self.fragment.clone();
        if let Some(fragment) = &mut fragment {
            let more = UnitFile::parse(&fragment.path, content);
            fragment.assignments.extend(more.assignments);
        }
        Self::from_files(self.name.clone(), fragment, self.dropins.clone())
    }

    /// The settings without some of their drop-ins.
    #[must_use]
    pub fn without_dropins(&self, is_removed: impl Fn(&Path) -> bool) -> Self {
        let dropins = self.dropins.iter().filter(|file| !is_removed(&file.path)).cloned().collect();
        Self::from_files(self.name.clone(), self.fragment.clone(), dropins)
    }

    /// The drop-ins that systemd reads after a drop-in of this name. Their lines override that drop-in's lines.
    pub fn later_dropins(&self, path: &Path) -> impl Iterator<Item = &Path> {
        let is_later = |file: &&UnitFile| file.path.file_name() > path.file_name();
        self.dropins.iter().filter(is_later).map(|file| &*file.path)
    }

    fn merge(&mut self) {
        let files = self.fragment.iter().chain(&self.dropins);
        let mut notes: Vec<FileNote> = files.clone().flat_map(|file| file.notes.iter().cloned()).collect();
        let mut commands: BTreeMap<&str, Vec<ExecCommand>> = BTreeMap::new();
        let mut user = None;
        let mut program = ProgramSettings::default();
        let fragment = self.fragment.as_ref();
        for line in files.flat_map(|file| &file.assignments) {
            if &*line.key == USER {
                user = Some(&*line.value).filter(|value| !value.is_empty());
                continue;
            }
            if program_settings::KEYS.contains(&&*line.key) {
                program.apply(line);
                continue;
            }
            let Some(directive) = Directive::from_key(&line.key) else {
                if !exec_command::KEYS.contains(&&*line.key) {
                    continue;
                }
                if line.value.is_empty() {
                    commands.remove(&*line.key);
                } else {
                    commands.entry(&line.key).or_default().extend(ExecCommand::parse(line));
                }
                continue;
            };
            let mut ignored = |why: &str| {
                notes.push(FileNote::at(&line.origin, format!("{} {why}, ignored", escape_excerpt(&line.value))));
            };
            match directive.spec().value {
                ValueKind::ErrorNumber if self.default_effect.apply(line) => {}
                ValueKind::ErrorNumber => ignored("is no error number"),
                ValueKind::Namespaces => Namespaces::apply(&mut self.namespaces, line, &mut notes),
                ValueKind::Architectures => self.architectures.apply(line, &mut notes),
                ValueKind::Switch => match parse_switch(directive, &line.value) {
                    Some(on) => {
                        self.switches.insert(directive, Switch { on, origin: line.origin.clone() });
                    }
                    None if is_refused(line) => {
                        notes.push(FileNote::at(&line.origin, describe_refusal(line, fragment)));
                    }
                    None => ignored("is neither yes nor no"),
                },
                ValueKind::Word | ValueKind::Toggle
                    if !line.value.is_empty() && parse_word(directive, &line.value).is_none() =>
                {
                    ignored(&format!("is no known value of {}=", directive.key()));
                }
                // The effective value of calls and families depends on the version of systemd, which is unknown here.
                // `SandboxSettings` merges the lines of directives that filter no calls.
                _ => {}
            }
        }
        self.user = user.map(Into::into);
        self.program = program;
        self.commands = commands.into_values().flatten().collect();
        if notes.len() > MOST_NOTES {
            let text = format!("and {} more notes", notes.len() - MOST_NOTES);
            notes.truncate(MOST_NOTES);
            notes.push(FileNote::without_line(text));
        }
        self.notes = notes;
    }

    /// The unit's name.
    #[must_use]
    pub fn name(&self) -> &UnitName {
        &self.name
    }

    /// The section with the settings: `Service`, `Socket`, `Mount` or `Swap`; empty for other units.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.section
    }

    /// The lines of a directive, in merge order.
    pub fn lines(&self, directive: Directive) -> impl Iterator<Item = &Assignment> {
        self.assignments().filter(move |line| Directive::from_key(&line.key) == Some(directive))
    }

    /// Every line of a directive, every command line, every setting of the program and every line that systemd applies
    /// before it executes the program, in merge order.
    pub fn assignments(&self) -> impl Iterator<Item = &Assignment> {
        self.fragment.iter().chain(&self.dropins).flat_map(|file| &file.assignments)
    }

    /// The value of a switch, if a line sets it.
    #[must_use]
    pub fn switch(&self, directive: Directive) -> Option<&Switch> {
        self.switches.get(&directive)
    }

    /// Returns the directive whose line switches the rules of a directive on: itself, or one that implies it.
    pub(super) fn switched_on(&self, directive: Directive) -> Option<(Directive, &Origin)> {
        let on =
            |directive| self.switch(directive).filter(|switch| switch.on).map(|switch| (directive, &switch.origin));
        // No line can switch off an implied directive, so a remedy must deal with the implying directive.
        let implied = (directive == Directive::RestrictSUIDSGID).then(|| on(Directive::DynamicUser)).flatten();
        implied.or_else(|| on(directive))
    }

    /// Returns the rules of the directives that are switched on, in the directives' order.
    pub(super) fn active_rules(&self) -> Vec<(Directive, &'static Rule)> {
        let is_active = |directive: Directive| match directive {
            Directive::RestrictNamespaces => self.namespaces().is_some_and(Namespaces::restricts),
            _ => self.switched_on(directive).is_some(),
        };
        Directive::rules().filter(|(directive, _)| is_active(*directive)).collect()
    }

    /// The effective `SystemCallErrorNumber=`.
    #[must_use]
    pub fn default_effect(&self) -> &DefaultEffect {
        &self.default_effect
    }

    /// The effective `RestrictNamespaces=`, if it is set.
    #[must_use]
    pub fn namespaces(&self) -> Option<&Namespaces> {
        self.namespaces.as_ref()
    }

    /// The effective `SystemCallArchitectures=`.
    #[must_use]
    pub fn architectures(&self) -> &Architectures {
        &self.architectures
    }

    /// The commands, grouped by key.
    #[must_use]
    pub fn commands(&self) -> &[ExecCommand] {
        &self.commands
    }

    /// The user that `User=` sets, as written; `None` if no line sets one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Whether its processes start as root, apart from those of commands with a prefix.
    #[must_use]
    pub fn starts_as_root(&self) -> bool {
        let is_dynamic = self.switch(Directive::DynamicUser).is_some_and(|switch| switch.on);
        self.user().map_or(!is_dynamic, |user| matches!(user, "root" | "0"))
    }

    /// Whether all commands keep root's rights under `User=`: by the prefix `!` (`systemd.service(5)`).
    pub(crate) fn has_only_elevated_commands(&self) -> bool {
        !self.commands.is_empty() && self.commands.iter().all(|command| command.elevated)
    }

    /// Whether a process of the unit starts with a capability: it runs as root, or systemd gives it the capability.
    #[must_use]
    pub fn starts_with_capability(&self, name: &str) -> bool {
        let can_be_root = self.starts_as_root() || self.commands.iter().any(|command| command.elevated);
        self.can_have_capability(name) && (can_be_root || self.program.has_ambient_capability(name))
    }

    /// Whether a process of the unit can have a capability, such as `CAP_SETUID`: the bounding set holds it, and no
    /// directive such as `ProtectClock=` takes it from the set.
    #[must_use]
    pub fn can_have_capability(&self, name: &str) -> bool {
        let is_on = |directive: &Directive| self.switch(*directive).is_some_and(|switch| switch.on);
        let mut on = Directive::switches().filter(is_on);
        self.program.can_have_capability(name) && !on.any(|directive| find_withheld(directive).contains(&name))
    }

    /// Whether a unit's processes have another root directory than the machine's.
    pub(crate) fn has_own_root(&self) -> bool {
        ["RootDirectory", "RootImage"].iter().any(|key| !self.lines_in_force(key).is_empty())
    }

    /// Whether a unit's processes gain no rights from set-uid programs: by a line, or by `DynamicUser=`, which implies it.
    #[must_use]
    pub fn has_no_new_privileges(&self) -> bool {
        self.program.no_new_privileges || self.switch(Directive::DynamicUser).is_some_and(|switch| switch.on)
    }

    /// The settings that show what the program does.
    #[must_use]
    pub fn program(&self) -> &ProgramSettings {
        &self.program
    }

    /// Whether a process of the unit that its filter holds can use a capability, such as `CAP_SETUID`. A program of
    /// another user than root loses its capabilities, except ambient ones, and gets none back under `NoNewPrivileges=`
    /// (`capabilities(7)`). `NoNewPrivileges=` counts only where a line sets it, or `DynamicUser=` is on: whether systemd
    /// implies it elsewhere depends on its version.
    #[must_use]
    pub fn can_use_capability(&self, name: &str) -> bool {
        let is_root =
            self.starts_as_root() || self.commands.iter().any(|command| command.elevated && !command.privileged);
        let program = &self.program;
        self.can_have_capability(name)
            && (is_root || !self.has_no_new_privileges() || program.has_ambient_capability(name))
    }

    /// The notes about lines that systemd ignores.
    #[must_use]
    pub fn notes(&self) -> &[FileNote] {
        &self.notes
    }

    /// The effective `SystemCallLog=`, if it is set.
    #[must_use]
    pub(crate) fn log_list(&self, groups: &Groups) -> Option<CallList> {
        let mut list = None;
        CallList::apply(&mut list, self.lines(Directive::SystemCallLog), Dialect::Log, groups);
        list
    }
}

/// Returns the section of a unit file that holds the settings of processes (`systemd.exec(5)`).
pub(crate) fn exec_section(name: &UnitName) -> &'static str {
    match name.suffix() {
        "service" => "Service",
        "socket" => "Socket",
        "mount" => "Mount",
        "swap" => "Swap",
        _ => "",
    }
}

/// Parses the value of a switch. `ProtectHostname=` also takes a host name after a colon, and `private`, which only
/// unshares the name (systemd 257).
fn parse_switch(directive: Directive, value: &str) -> Option<bool> {
    if directive != Directive::ProtectHostname {
        return parse_boolean(value);
    }
    match value.split_once(':').map_or(value, |(mode, _)| mode) {
        "private" => Some(false),
        mode => parse_boolean(mode),
    }
}

/// Whether the lines with a key are kept.
fn is_relevant(key: &str) -> bool {
    Directive::from_key(key).is_some()
        || exec_command::KEYS.contains(&key)
        || key == USER
        || program_settings::KEYS.contains(&key)
        || is_set_up_key(key)
        || is_hardening_key(key)
}

/// Notes a key that systemd does not know, if it resembles a directive's.
fn describe_mistyped_key(line: &Assignment) -> Option<FileNote> {
    /// How many first letters a mistyped key has right, and in how many places it differs at most.
    const SAME_START: usize = 3;
    const MOST_MISTAKES: usize = 2;
    let key = &*line.key;
    if is_relevant(key) {
        return None;
    }
    let is_near = |known: &&str| {
        known.len().abs_diff(key.len()) <= MOST_MISTAKES && known.get(..SAME_START) == key.get(..SAME_START)
    };
    let distances = Directive::ALL.iter().map(|directive| directive.key()).filter(is_near);
    let distances = distances.map(|known| (strsim::osa_distance(key, known), known));
    let (_, meant) = distances.filter(|(distance, _)| *distance <= MOST_MISTAKES).min()?;
    Some(FileNote::at(&line.origin, format!("{}= is unknown, ignored: did you mean {meant}=?", escape_excerpt(key))))
}

/// Whether systemd stops reading a file at a line: it ignores other bad lines (`config_parse_bool` in
/// `load-fragment.c`, with `DynamicUser=` alone marked as fatal).
fn is_refused(line: &Assignment) -> bool {
    let directive = Directive::from_key(&line.key);
    directive == Some(Directive::DynamicUser) && parse_switch(Directive::DynamicUser, &line.value).is_none()
}

/// Says what systemd does at a line that it refuses. It loads no unit whose own file has such a line.
fn describe_refusal(line: &Assignment, fragment: Option<&UnitFile>) -> String {
    let is_in_fragment = fragment.is_some_and(|fragment| *fragment.path == *line.origin.path);
    let effect = if is_in_fragment { "systemd does not load the unit" } else { "systemd ignores the rest of the file" };
    format!("{}={} is neither yes nor no: {effect}", line.key, escape_excerpt(&line.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    #[test]
    fn mistyped_keys_and_unknown_words_are_noted() {
        let noted = |line: &str| {
            let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{line}\n").as_bytes());
            let settings = Settings::new(&name("x.service"), Some(file), Vec::new());
            settings.notes().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let family = "x.service:2: RestrictAddressFamiles= is unknown, ignored: did you mean RestrictAddressFamilies=?";
        assert_eq!(noted("RestrictAddressFamiles=AF_INET"), [family]);
        let nearest = "x.service:2: ExecPath= is unknown, ignored: did you mean ExecPaths=?";
        assert_eq!(noted("ExecPath=/a"), [nearest]);
        assert_eq!(noted("ProtectSystem=stict"), ["x.service:2: stict is no known value of ProtectSystem=, ignored"]);
        for line in
            ["ProtectSystem=", "ProtectSystem=1", "PrivateIPC=yes", "ReadOnlyDirectories=/a", "LogsDirectoryMode=7"]
        {
            assert_eq!(noted(line), [""; 0], "{line}");
        }
    }

    fn file(path: &str, text: &str) -> UnitFile {
        UnitFile::parse(Path::new(path), text.as_bytes())
    }

    fn settings(fragment: &str) -> Settings {
        Settings::new(&name("x.service"), Some(file("x.service", &format!("[Service]\n{fragment}"))), Vec::new())
    }

    #[test]
    fn last_valid_switch_line_wins_and_is_the_origin() {
        let settings =
            settings("ProtectClock=yes\nProtectClock=off\nProtectClock=1\nProtectClock=maybe\nProtectClock=\n");
        let switch = settings.switch(Directive::ProtectClock).unwrap();
        assert!(switch.on);
        assert_eq!(switch.origin.to_string(), "x.service:4");
        assert_eq!(settings.notes().len(), 2);
        assert_eq!(settings.notes()[0].to_string(), "x.service:5: maybe is neither yes nor no, ignored");
    }

    #[test]
    fn lines_outside_the_section_of_the_unit_type_are_ignored() {
        let text = "[Unit]\nProtectClock=yes\n[Socket]\nProtectClock=yes\n";
        let settings = |unit: &str| Settings::new(&name(unit), Some(file("x", text)), Vec::new());
        assert!(settings("x.service").switch(Directive::ProtectClock).is_none());
        assert!(settings("x.socket").switch(Directive::ProtectClock).is_some());
        assert!(settings("x.timer").switch(Directive::ProtectClock).is_none());
    }

    #[test]
    fn empty_error_number_resets_to_kill_and_zero_is_ignored() {
        let effect = |text: &str| settings(text).default_effect().effect.to_string();
        assert_eq!(effect("SystemCallErrorNumber=EPERM\n"), "EPERM");
        assert_eq!(effect("SystemCallErrorNumber=EPERM\nSystemCallErrorNumber=\n"), "kill");
        assert_eq!(
            effect("SystemCallErrorNumber=EPERM\nSystemCallErrorNumber=0\nSystemCallErrorNumber=EFOO\n"),
            "EPERM"
        );
        assert_eq!(effect("SystemCallErrorNumber=38\nSystemCallErrorNumber=kill\n"), "kill");
    }

    #[test]
    fn empty_command_line_clears_earlier_ones() {
        let settings = settings("ExecStart=/a\nExecStart=\nExecStart=/b\nExecStop=/c\n");
        let programs: Vec<&str> = settings.commands().iter().map(|c| &*c.program).collect();
        assert_eq!(programs, ["/b", "/c"]);
    }

    #[test]
    fn new_dropin_is_inserted_by_its_file_name() {
        let dropin = |path: &str, value: &str| file(path, &format!("[Service]\nSystemCallFilter={value}\n"));
        let settings = Settings::new(
            &name("x.service"),
            Some(dropin("x.service", "a")),
            vec![dropin("/etc/x.d/20-b.conf", "b"), dropin("/etc/x.d/50-d.conf", "d")],
        );
        let add = |path: &str| {
            let settings = settings.with_dropin(Path::new(path), b"[Service]\nSystemCallFilter=new\n");
            settings.lines(Directive::SystemCallFilter).map(|line| line.value.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(add("/etc/x.d/30-c.conf"), ["a", "b", "new", "d"]);
        assert_eq!(add("/etc/x.d/99.conf"), ["a", "b", "d", "new"]);
        assert_eq!(add("/etc/x.d/50-d.conf"), ["a", "b", "new"]);
    }

    #[test]
    fn capability_is_usable_if_bounding_set_and_user_leave_it() {
        let can = |lines: &str| settings(lines).can_use_capability("CAP_CHOWN");
        assert!(can(""));
        assert!(!can("CapabilityBoundingSet=CAP_KILL\n"));
        assert!(can("User=web\n"), "a set-uid program has it");
        assert!(!can("User=web\nNoNewPrivileges=yes\n"));
        assert!(!can("DynamicUser=yes\n"), "it implies NoNewPrivileges=");
        assert!(can("User=web\nNoNewPrivileges=yes\nNoNewPrivileges=no\n"));
        assert!(can("User=web\nNoNewPrivileges=yes\nUser=root\n"));
        assert!(can("User=web\nNoNewPrivileges=yes\nAmbientCapabilities=CAP_CHOWN\n"));
        assert!(!can("User=web\nNoNewPrivileges=yes\nAmbientCapabilities=CAP_CHOWN\nCapabilityBoundingSet=\n"));
        assert!(can("User=web\nNoNewPrivileges=yes\nExecStartPre=!/bin/chown web /run/web\n"));
        assert!(!can("User=web\nNoNewPrivileges=yes\nExecStartPre=+/bin/chown web /run/web\n"), "no filter holds it");
    }

    #[test]
    fn bad_value_of_dynamic_user_ends_the_drop_in_and_refuses_the_unit() {
        let file = |path: &str, lines: &str| UnitFile::parse(Path::new(path), format!("[Service]\n{lines}").as_bytes());
        let bad = "LockPersonality=yes\nDynamicUser=maybe\nProtectClock=yes\n";
        let is_on = |settings: &Settings, directive| settings.switch(directive).is_some_and(|switch| switch.on);
        let on = |settings: &Settings| {
            [Directive::LockPersonality, Directive::ProtectClock, Directive::ProtectKernelLogs]
                .map(|directive| is_on(settings, directive))
        };
        let dropins = vec![file("/x.d/10.conf", bad), file("/x.d/20.conf", "ProtectKernelLogs=yes\n")];
        let below = Settings::new(&"x.service".parse().unwrap(), Some(file("/x", "")), dropins);
        assert_eq!(on(&below), [true, false, true]);
        assert!(below.notes()[0].text.ends_with("is neither yes nor no: systemd ignores the rest of the file"));
        let own = Settings::new(&"x.service".parse().unwrap(), Some(file("/x", bad)), Vec::new());
        assert!(
            own.notes()[0].text.ends_with("is neither yes nor no: systemd does not load the unit"),
            "{:?}",
            own.notes()
        );
    }

    #[test]
    fn directive_withholds_capabilities_whatever_the_bounding_set() {
        let can = |lines: &str, name: &str| settings(lines).can_use_capability(name);
        for (directive, names) in [
            ("PrivateDevices", &["CAP_MKNOD", "CAP_SYS_RAWIO"][..]),
            ("ProtectKernelModules", &["CAP_SYS_MODULE"]),
            ("ProtectKernelLogs", &["CAP_SYSLOG"]),
            ("ProtectClock", &["CAP_SYS_TIME", "CAP_WAKE_ALARM"]),
        ] {
            for name in names {
                assert!(!can(&format!("{directive}=yes\nCapabilityBoundingSet={name}\n"), name), "{directive} {name}");
                assert!(can(&format!("{directive}=no\nCapabilityBoundingSet={name}\n"), name), "{directive} {name}");
            }
            assert!(can(&format!("{directive}=yes\n"), "CAP_CHOWN"), "{directive}");
        }
    }

    #[test]
    fn private_host_name_installs_no_filter() {
        assert!(!settings("ProtectHostname=private:x\n").switch(Directive::ProtectHostname).unwrap().on);
        assert!(settings("ProtectHostname=yes:x\n").switch(Directive::ProtectHostname).unwrap().on);
    }
}
