//! `apply` and `revert`: a remedy in its drop-in, confirmed by systemd itself, or nothing changed at all.

use crate::audit::Note;
use crate::audit::text::shown_path;
use crate::cli::args::{Apply, Common};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::unit_names::find_unit_with_incidents;
use crate::cli::terminal::page::Page;
use crate::cli::terminal::prompt;
use crate::cli::views::answer::RemedyView;
use crate::cli::views::applied::{Applied, Applying, Restarted, diff, next};
use crate::diagnosis::{Diagnosis, Remedy, RemedyKind, diagnose};
use crate::host::unit_settings;
use crate::host::unit_settings::REMEDY_DROP_IN;
use crate::incidents::local_time::LocalTime;
use crate::operations::confirm::{confirm, taken_back, wanted};
use crate::operations::drop_in;
use crate::operations::interruption::Interruption;
use crate::operations::outcome::NothingToDo;
use crate::operations::permission::{can_take_drop_ins, may_change};
use crate::systemd::manager::{UnitOutcome, UnitProperties};
use crate::unit_files;
use crate::units::UnitName;
use anyhow::{Context as _, bail, ensure};
use std::io::IsTerminal as _;

/// Applies a remedy for what was seen of a unit.
///
/// # Errors
/// There is nothing to apply, it cannot be written, or systemd did not take it as predicted: nothing was changed then.
pub(crate) async fn apply(common: &Common, asked: &Apply, clock: &LocalTime) -> anyhow::Result<Applied> {
    ensure!(
        asked.yes || asked.dry_run || (std::io::stdin().is_terminal() && !common.json),
        "apply asks before it writes, and there is nobody to ask: say --yes or --dry-run"
    );
    let context = Context::open(common, &asked.source, clock).await?;
    let (unit, incidents) = find_unit_with_incidents(&context, &asked.chosen).await?;
    let Context { managers, loaded_groups: loaded, mut notes, .. } = context;
    may_change(&unit, "apply")?;
    let manager = managers.connect(unit.manager).await?;
    let known = unit_settings::load(&managers, &unit, &loaded.groups).await;
    can_take_drop_ins(&unit.name, &known)?;
    let running = known.properties.as_ref().is_some_and(UnitProperties::is_running);
    notes.extend(known.notes);
    let mut situation = known.situation.with_context(|| format!("the settings of {} cannot be read", unit.name))?;
    if asked.runtime {
        let persistent =
            std::mem::replace(&mut situation.drop_in, unit_files::runtime_dropin_path(&unit, REMEDY_DROP_IN));
        ensure!(
            !persistent.exists(),
            "{} is there already and would hide one below /run: apply without --runtime, or revert first",
            shown_path(&persistent)
        );
    }
    let diagnosis = diagnose(incidents, Some(&situation), &loaded.groups);
    let (number, remedy) = chosen_remedy(&diagnosis, asked.remedy, &unit.name)?;
    let view = RemedyView::new(remedy, &situation.drop_in, asked.remedy.is_none(), &loaded.groups);
    let old = drop_in::read(&situation.drop_in)?;
    let denied = wanted(&diagnosis).into_iter().map(|(_, call)| call).collect::<Vec<_>>().join(" ");
    let why = match remedy.kind {
        RemedyKind::Predicted | RemedyKind::Equivalents | RemedyKind::Groups(_) => {
            format!("for denials of {denied}; the rest was not denied. {}", view.title)
        }
        RemedyKind::Calls | RemedyKind::RelaxDirectives | RemedyKind::FailWithError => {
            format!("for denials of {denied}")
        }
    };
    let undo = format!("harden-why revert {}{}", unit.manager.option(), unit.name);
    let new = drop_in::compose(&remedy.content, &clock.today(), &why, &undo);

    let diff = diff(old.as_deref().unwrap_or_default(), new.as_bytes());
    notes.extend(cautions(remedy));
    let mut applied = Applied::new(&unit, "dry-run", Some(&situation.drop_in), diff, notes);
    applied.remedy = Some(Applying { number, of: diagnosis.remedies.len(), title: view.title, opens: view.opens });
    if asked.dry_run {
        return Ok(applied);
    }
    let mut interruption = Interruption::heard()?;
    if !asked.yes && !prompt::ask(&question(&applied), &mut interruption).await.context("nothing was changed")? {
        applied.outcome = "declined";
        return Ok(applied);
    }
    let undo = drop_in::write(&situation.drop_in, new.as_bytes())?;
    let confirmed = confirm(&managers, &manager, &unit, &situation, &diagnosis, new.as_bytes(), &loaded.groups);
    if let Err(error) = interruption.or(confirmed).await {
        return Err(taken_back(vec![undo], &manager, error, &mut interruption).await);
    }
    (applied.outcome, applied.confirmed) = ("applied", true);
    if asked.restart {
        let restarted = interruption.or(async { Ok(manager.restart(&unit.name).await?) }).await;
        let UnitOutcome { active_state, result } = restarted.with_context(|| {
            let path = shown_path(&situation.drop_in);
            format!("{path} is in place and systemd holds what it says, but {} was not seen to start anew", unit.name)
        })?;
        applied.restarted = Some(Restarted { active_state, result });
    } else {
        applied.notes.push(next(&unit, running));
    }
    Ok(applied)
}

/// The remedy to apply, with its number.
fn chosen_remedy<'a>(
    diagnosis: &'a Diagnosis,
    asked: Option<usize>,
    name: &UnitName,
) -> anyhow::Result<(usize, &'a Remedy)> {
    let count = diagnosis.remedies.len();
    let index = match asked {
        Some(number) => number.checked_sub(1),
        None => diagnosis.default_remedy(),
    };
    match index.and_then(|index| Some((index + 1, diagnosis.remedies.get(index)?))) {
        Some(remedy) => Ok(remedy),
        None if asked.is_none() && diagnosis.is_guessed() => bail!(
            "that it was {name} is a guess, so none is applied unasked: look at 'harden-why {name}', then say --remedy N"
        ),
        None if count == 0 => bail!(NothingToDo(format!(
            "there is no remedy to apply for the denials of {name}; 'harden-why {name}' tells why"
        ))),
        None => bail!("the remedies for {name} are numbered 1 to {count}; 'harden-why {name}' shows them"),
    }
}

/// What one should know of a remedy before it is written.
fn cautions(remedy: &Remedy) -> Vec<Note> {
    let mut notes = Vec::new();
    if !remedy.sensitive.is_empty() {
        let calls = remedy.sensitive.iter().map(|(group, call)| format!("{call} ({group})"));
        notes.push(Note::new(
            "opens-privileged-calls",
            format!("among what it allows can reach beyond the program: {}", calls.collect::<Vec<_>>().join(", ")),
        ));
    }
    if !remedy.conditional.is_empty() {
        notes.push(Note::new(
            "remedy-not-proven",
            format!("not proven for {}: other directives still look at the arguments", remedy.conditional.join(", ")),
        ));
    }
    notes
}

fn question(applied: &Applied) -> String {
    let mut notes = Page::default();
    crate::cli::terminal::page::add_notes(&mut notes, &applied.notes);
    format!("{}{}\nWrite it?", applied.plan(), notes.finish())
}
