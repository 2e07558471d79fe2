//! A unit's settings that restrict what the unit's processes may do, merged from its files in systemd's order.

use super::call_list::{CallList, Dialect};
use super::directive::{Directive, Rule, ValueKind};
use super::effect::DefaultEffect;
use super::exec_command;
use super::exec_command::ExecCommand;
use super::lists::{Architectures, Namespaces};
use super::program_settings;
use super::program_settings::ProgramSettings;
use super::relevant_lines::{end_at_refused_line, exec_section, select_lines};
use super::sandbox::word_value::parse_word;
use super::switch::{Switch, describe_bad_value};
use super::unit_file::{Assignment, FileNote, Origin, UnitFile};
use crate::audit::text::escape_excerpt;
use crate::syscalls::Groups;
use crate::units::UnitName;
use std::collections::BTreeMap;
use std::path::Path;

/// The limit on notes kept for a unit. Further notes are only counted.
const MOST_NOTES: usize = 200;

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
    program: ProgramSettings,
    notes: Vec<FileNote>,
}

impl Settings {
    /// The settings of a unit from its files, with drop-ins in systemd's merge order. A unit without
    /// processes (a timer, a target) has no settings.
    #[must_use]
    pub fn new(name: &UnitName, fragment: Option<UnitFile>, dropins: Vec<UnitFile>) -> Self {
        let section = exec_section(name);
        let select = |file| select_lines(file, section);
        let mut settings = Self {
            name: name.clone(),
            section,
            fragment: fragment.map(select),
            dropins: dropins.into_iter().map(select).map(end_at_refused_line).collect(),
            switches: BTreeMap::new(),
            default_effect: DefaultEffect::default(),
            namespaces: None,
            architectures: Architectures::default(),
            commands: Vec::new(),
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
        Self::new(&self.name, self.fragment.clone(), dropins)
    }

    /// The settings with more lines at the end of the unit file.
    #[must_use]
    pub fn with_fragment_lines(&self, content: &[u8]) -> Self {
        let mut fragment = self.fragment.clone();
        if let Some(fragment) = &mut fragment {
            let more = UnitFile::parse(&fragment.path, content);
            fragment.assignments.extend(more.assignments);
        }
        Self::new(&self.name, fragment, self.dropins.clone())
    }

    /// The settings without some of their drop-ins.
    #[must_use]
    pub fn without_dropins(&self, is_removed: impl Fn(&Path) -> bool) -> Self {
        let dropins = self.dropins.iter().filter(|file| !is_removed(&file.path)).cloned().collect();
        Self::new(&self.name, self.fragment.clone(), dropins)
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
        let fragment = self.fragment.as_ref();
        for line in files.flat_map(|file| &file.assignments) {
            let key = &*line.key;
            if program_settings::KEYS.contains(&key) {
                self.program.apply(line);
                continue;
            }
            if exec_command::KEYS.contains(&key) {
                if line.value.is_empty() {
                    commands.remove(key);
                } else {
                    commands.entry(key).or_default().extend(ExecCommand::parse(line));
                }
                continue;
            }
            let Some(directive) = Directive::from_key(key) else { continue };
            let mut ignored = |why: &str| {
                notes.push(FileNote::at(&line.origin, format!("{} {why}, ignored", escape_excerpt(&line.value))));
            };
            match directive.spec().value {
                ValueKind::ErrorNumber if self.default_effect.apply(line) => {}
                ValueKind::ErrorNumber => ignored("is no error number"),
                ValueKind::Namespaces => Namespaces::apply(&mut self.namespaces, line, &mut notes),
                ValueKind::Architectures => self.architectures.apply(line, &mut notes),
                ValueKind::Switch => match Switch::parse(directive, line) {
                    Some(switch) => _ = self.switches.insert(directive, switch),
                    None => notes.push(FileNote::at(&line.origin, describe_bad_value(line, fragment))),
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

    /// Whether a line switches a directive on.
    #[must_use]
    pub fn is_on(&self, directive: Directive) -> bool {
        self.switch(directive).is_some_and(|switch| switch.on)
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
        self.lines(Directive::User).last().map(|line| &*line.value).filter(|user| !user.is_empty())
    }

    /// Whether a unit's processes have another root directory than the machine's.
    pub(crate) fn has_own_root(&self) -> bool {
        ["RootDirectory", "RootImage"].iter().any(|key| !self.lines_in_force(key).is_empty())
    }

    /// The settings that show what the program does.
    #[must_use]
    pub fn program(&self) -> &ProgramSettings {
        &self.program
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
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
    fn unknown_word_is_noted() {
        assert_eq!(settings("ProtectSystem=\nProtectSystem=1\n").notes(), []);
        let noted = settings("ProtectSystem=stict\n").notes()[0].to_string();
        assert_eq!(noted, "x.service:2: stict is no known value of ProtectSystem=, ignored");
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
}
