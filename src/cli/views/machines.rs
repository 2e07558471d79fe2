//! What a unit's lines, or those of a remedy, mean on other machines.

use crate::audit::text::{join, join_first, plural};
use crate::cli::args::machine::Machine;
use crate::cli::terminal::output::Detail;
use crate::cli::terminal::page::{BAD, BOLD, GOOD, Page, styled};
use crate::diagnosis::portability::{
    MissingCall, find_missing_calls, find_permitting_line, find_unknown_names, move_to,
};
use crate::diagnosis::{ForeseenCall, Likelihood, foresee_denials};
use crate::policy::Policy;
use crate::programs::Program;
use crate::syscalls::{Abi, Groups};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// The most names of a line.
const MOST_NAMES: usize = 8;

/// The settings and programs of a unit that other machines run as well.
pub(crate) struct PortedUnit<'a> {
    pub policy: &'a Policy,
    pub programs: &'a [Program],
    pub groups: &'a Groups,
    /// The file whose lines count; `None` for all of the unit's.
    pub file: Option<&'a Path>,
}

/// What differs on another machine.
#[derive(Debug, Serialize)]
pub(crate) struct MachineView {
    /// The architecture, or the version of systemd.
    machine: String,
    /// The names of the lines that are, or may be, unknown there.
    unknown_names: Vec<String>,
    /// The calls that go by other names there.
    other_names: Vec<OtherNameView>,
    /// The calls that only there would likely be denied to the programs.
    denied: Vec<String>,
    /// The line that permits these, and the other names that would be denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    add: Option<String>,
}

/// A call that goes by other names on another machine.
#[derive(Debug, Serialize)]
struct OtherNameView {
    call: String,
    /// The names there.
    instead: Vec<&'static str>,
    /// Those of them that would be denied there.
    denied: Vec<&'static str>,
}

impl MachineView {
    /// Looks at other machines.
    pub(crate) fn list(machines: &[Machine], unit: &PortedUnit<'_>) -> Vec<Self> {
        let here: BTreeSet<&str> =
            foresee_denials(unit.programs, unit.policy).into_iter().map(|foreseen| foreseen.call).collect();
        machines.iter().map(|machine| Self::new(*machine, unit, &here)).collect()
    }

    /// Looks at another machine. `here` are the calls that would be denied here.
    fn new(machine: Machine, unit: &PortedUnit<'_>, here: &BTreeSet<&str>) -> Self {
        let mut view = Self {
            machine: machine.to_string(),
            unknown_names: Vec::new(),
            other_names: Vec::new(),
            denied: Vec::new(),
            add: None,
        };
        match machine {
            Machine::Systemd(version) => view.unknown_names = find_unknown_names(unit.policy, version, unit.file),
            Machine::Arch(abi) => view.compare(abi, unit, here),
        }
        view
    }

    /// Compares an architecture with this one.
    fn compare(&mut self, abi: Abi, unit: &PortedUnit<'_>, here: &BTreeSet<&str>) {
        let there = move_to(unit.policy, abi, unit.groups);
        for MissingCall { call, instead, denied } in find_missing_calls(&there, abi, unit.file) {
            if instead.is_empty() {
                self.unknown_names.push(call);
            } else {
                self.other_names.push(OtherNameView { call, instead, denied });
            }
        }
        let rebuilt: Vec<Program> = unit.programs.iter().map(|program| program.rebuild_for(abi)).collect();
        let is_new =
            |foreseen: &ForeseenCall<'_>| foreseen.likelihood == Likelihood::Likely && !here.contains(foreseen.call);
        let denied = foresee_denials(&rebuilt, &there).into_iter().filter(is_new);
        self.denied = denied.map(|foreseen| foreseen.call.to_owned()).collect();
        let lacking = self.other_names.iter().flat_map(|name| name.denied.iter().copied());
        let lacking = lacking.chain(self.denied.iter().map(String::as_str)).collect();
        self.add = find_permitting_line(&there, abi, &lacking, unit.groups);
    }

    /// Says how many calls would be denied there alone; `None` if none would.
    pub(crate) fn conclude(&self) -> Option<String> {
        let renamed = self.other_names.iter().filter(|name| !name.denied.is_empty()).count();
        let count = self.denied.len() + renamed;
        (count > 0).then(|| format!("{} would be denied on {} alone", plural(count as u64, "call"), self.machine))
    }

    /// Whether the lines do there what they do here. A name without a meaning there does no harm.
    pub(crate) fn passes(&self) -> bool {
        self.denied.is_empty() && self.other_names.iter().all(|name| name.denied.is_empty())
    }

    /// Describes what differs, a line for each kind.
    fn describe(&self, detail: Detail) -> Vec<String> {
        let Self { unknown_names, other_names, denied, .. } = self;
        let mut lines = Vec::new();
        if !unknown_names.is_empty() {
            lines.push(format!("may be unknown and ignored: {}", join_first(unknown_names, MOST_NAMES)));
        }
        let (wrong, right): (Vec<&OtherNameView>, Vec<_>) =
            other_names.iter().partition(|name| !name.denied.is_empty());
        for OtherNameView { call, denied, .. } in wrong {
            let text = format!("{call} is {} there, which would be denied", denied.join(", "));
            lines.push(styled(BAD, text));
        }
        if !denied.is_empty() {
            lines.push(styled(BAD, format!("would likely be denied there alone: {}", join_first(denied, MOST_NAMES))));
        }
        match right.len() {
            0 => {}
            count if count > MOST_NAMES && detail != Detail::Full => {
                lines.push(format!("{count} go by other names there, which pass"));
            }
            _ => {
                let name = |name: &&OtherNameView| format!("{} ({})", name.call, name.instead.join(", "));
                lines.push(format!("go by other names, which pass: {}", join(right.iter().map(name))));
            }
        }
        if lines.is_empty() {
            lines.push("no difference".to_owned());
        }
        lines
    }
}

/// Adds what differs on other machines.
pub(crate) fn add_machines(page: &mut Page, machines: &[MachineView], detail: Detail) {
    for view in machines {
        page.gap();
        page.line(styled(BOLD, &view.machine));
        for line in &view.describe(detail) {
            page.hanging((2, 4), line);
        }
        add_line(page, view, 2);
    }
}

/// Adds the line that permits what would be denied there.
fn add_line(page: &mut Page, view: &MachineView, indent: usize) {
    if let Some(line) = &view.add {
        page.line(format_args!("{:indent$}this line permits it:", ""));
        page.line(format_args!("{:indent$}  {}", "", styled(GOOD, line)));
    }
}

/// Adds what differs for a remedy.
pub(super) fn add_machines_of_remedy(page: &mut Page, machines: &[MachineView], indent: usize, detail: Detail) {
    for view in machines {
        for line in &view.describe(detail) {
            page.paragraph(indent, &format!("on {}: {line}", view.machine));
        }
        add_line(page, view, indent);
    }
}
