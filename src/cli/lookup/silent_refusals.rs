//! Silent refusals: systemd asks the kernel for no record of calls that fail with an error, unless configured to.

use crate::audit::Note;
use crate::audit::text::join;
use crate::cli::views::answer::{Answer, Silence};
use crate::diagnosis::Situation;
use crate::incidents::local_time::LocalTime;
use crate::operations::permission::root_command;
use crate::operations::refusal_logging::state::ActiveLogging;
use crate::policy::Directive;
use crate::units::{Manager, Unit};

/// Adds the unit's directives that refuse silently to an answer, or a statement that refusals are logged now. `runs` says
/// whether the unit runs.
pub(crate) fn describe(
    answer: &mut Answer,
    unit: &Unit,
    situation: &Situation,
    runs: bool,
    recording: Option<&ActiveLogging>,
    clock: &LocalTime,
) {
    let directives = situation.policy.refusing_directives();
    if directives.is_empty() {
        answer.silence =
            Some(silence_of_sandbox(unit, runs)).filter(|_| answer.denials.is_empty() && has_sandbox(situation));
        return;
    }
    answer.silent = directives.iter().map(|directive| directive.key()).collect();
    let names = join(answer.silent.iter().map(|name| format!("{name}=")));
    let is_loud = situation.policy.loggable_directives().len() == directives.len();
    if let Some(recording) = recording.filter(|_| is_loud) {
        let when = recording.when(clock);
        answer.notes.push(Note::new(
            "refusals-logged",
            format!(
                "calls that the unit's {names} refuses are logged for processes started {when}, and not for \
                others"
            ),
        ));
    } else if answer.denials.is_empty() {
        answer.silence = Some(Silence {
            words: format!("its {names} can refuse calls with an error, which leaves no record. To see them:"),
            commands: commands(unit, runs).into(),
        });
    } else {
        let commands = commands(unit, runs).map(|(command, _)| format!("'{command}'"));
        answer.notes.push(Note::new(
            "refusals-silent",
            format!(
                "the unit's {names} can refuse calls with an error, which leaves no record; {} show them",
                join(commands.into_iter())
            ),
        ));
    }
}

/// Whether the unit has lines that limit what its calls can reach.
fn has_sandbox(situation: &Situation) -> bool {
    let settings = &situation.policy.settings;
    let limits = |directive: &&Directive| !directive.filters_calls() && **directive != Directive::User;
    Directive::ALL.iter().filter(limits).any(|directive| settings.lines(*directive).next().is_some())
}

/// Describes the failed accesses that a unit without a filter can have.
fn silence_of_sandbox(unit: &Unit, runs: bool) -> Silence {
    let [_, tap, _] = commands(unit, runs);
    let words =
        "its sandbox can make accesses to paths, devices and addresses fail, which leaves no record. To see them:";
    Silence { words: words.to_owned(), commands: vec![tap] }
}

/// Returns the three commands that show a unit's refused calls. `runs` says whether it runs.
fn commands(unit: &Unit, runs: bool) -> [(String, &'static str); 3] {
    let flag = unit.manager.option();
    // Only instances of a template run.
    let name =
        if unit.name.is_template() { unit.name.as_str().replacen("@.", "@NAME.", 1) } else { unit.name.to_string() };
    let command = |verb: &str| format!("harden-why {verb} {flag}{name}");
    // A tap requires root whatever the unit's manager is.
    let as_owner = |verb| if unit.manager == Manager::System { root_command(&command(verb)) } else { command(verb) };
    let tap = if runs || unit.name.is_template() {
        (root_command(&command("tap")), "watches the running unit for 30 s")
    } else {
        (root_command(&command("tap --restart")), "starts the unit, and watches it for 30 s")
    };
    [
        (as_owner("rehearse"), "runs the unit once without its filters"),
        tap,
        (as_owner("log-refusals"), "restarts it, and logs for an hour"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tap_of_a_unit_that_does_not_run_starts_it() {
        let tap = |name: &str, runs| {
            let unit = Unit { manager: Manager::System, name: name.parse().unwrap() };
            let [_, (command, _), _] = commands(&unit, runs);
            command.split_once("harden-why ").unwrap().1.to_owned()
        };
        assert_eq!(tap("x.service", true), "tap x.service");
        assert_eq!(tap("x.service", false), "tap --restart x.service");
        assert_eq!(tap("x@.service", false), "tap x@NAME.service");
    }
}
