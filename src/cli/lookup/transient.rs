//! The answer for a transient unit: its settings come from the command that starts it, so the remedy goes there too.

use crate::audit::Note;
use crate::audit::text::shown_path;
use crate::cli::views::answer::Answer;
use crate::diagnosis::{Diagnosis, Situation};
use crate::operations::confirm::denied_calls;
use crate::syscalls::Groups;
use crate::systemd::manager::UnitProperties;
use crate::unit_files::transient::{has_generated_name, systemd_run_command};
use crate::units::Unit;
use std::path::Path;

/// Replaces drop-ins by `systemd-run` commands in the answer for a transient unit.
pub(super) fn describe_transient(
    answer: &mut Answer,
    unit: &Unit,
    diagnosis: &Diagnosis,
    (situation, properties): (&Situation, &UnitProperties),
    groups: &Groups,
) {
    let fragment = properties.fragment.as_deref().unwrap_or(Path::new(""));
    for (view, remedy) in answer.remedies.iter_mut().zip(&diagnosis.remedies) {
        view.path = None;
        let as_drop_in = situation.policy.with_dropin(&remedy.drop_in, remedy.content.as_bytes(), groups);
        let as_properties = situation.policy.with_fragment_lines(remedy.content.as_bytes(), groups);
        let is_same = |(abi, call)| as_drop_in.verdict(abi, call) == as_properties.verdict(abi, call);
        view.command = Some(diagnosis)
            .filter(|diagnosis| denied_calls(diagnosis).into_iter().all(is_same))
            .and_then(|_| systemd_run_command(Path::new("/"), unit, fragment, &remedy.lines));
    }
    let chosen = answer.remedies.iter().find(|remedy| remedy.default).or(answer.remedies.first());
    answer.apply = chosen.and_then(|remedy| remedy.command.clone());
    answer.then.clear();
    answer.notes.extend((!answer.remedies.is_empty()).then(|| note(unit, situation)));
}

fn note(unit: &Unit, situation: &Situation) -> Note {
    let name = &unit.name;
    let by_name = situation.drop_in.parent().filter(|_| !has_generated_name(name));
    let drop_in = by_name.map_or_else(String::new, |dir| {
        format!("; systemd also reads drop-ins in {} when it starts again", shown_path(dir))
    });
    let text =
        format!("{name} is transient: its starter sets its settings, with systemd-run -p or over D-Bus{drop_in}");
    Note::new("transient-unit", text)
}
