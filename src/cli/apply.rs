//! `apply` and `revert`: a remedy in its drop-in, confirmed by systemd itself, or nothing changed at all.

use super::answer::{Clock, SCHEMA, shown_path};
use super::args::{Apply, Chosen, Common};
use super::page::{BAD, BOLD, DIM, GOOD, PLACE, Page, styled};
use super::situation::{self, DROP_IN, Known};
use super::source::{Managers as Which, Scope, Source};
use super::units::managers;
use super::{Reply, render};
use crate::diagnosis::{Diagnosis, Remedy, Situation, denied, diagnose};
use crate::host::dropin::{self, Undo};
use crate::host::systemd::{Managers, Outcome, SystemdManager};
use crate::host::{groups, unit_files};
use crate::incidents::Incident;
use crate::syscalls::{Abi, Groups};
use crate::units::{Manager, Unit, UnitName};
use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What became of it.
#[derive(Debug, Serialize)]
pub(super) struct Applied {
    schema: u32,
    unit: String,
    manager: String,
    /// `applied`, `declined`, `dry-run`, `reverted` or `nothing`.
    outcome: &'static str,
    /// The drop-in.
    path: Option<String>,
    /// Its lines that come (`+`), stay (a space) and go (`-`).
    diff: Vec<String>,
    /// What systemd holds now was read back, and is as predicted.
    confirmed: bool,
    /// The unit's state after it was restarted.
    restarted: Option<Restarted>,
    notes: Vec<String>,
}

/// A unit after it was restarted.
#[derive(Debug, Serialize)]
struct Restarted {
    active_state: String,
    result: Option<String>,
}

/// Applies a remedy for what was seen of a unit.
///
/// # Errors
/// There is nothing to apply, it cannot be written, or systemd did not take it as predicted: nothing was changed then.
pub(super) async fn apply(common: &Common, asked: &Apply, clock: &Clock) -> anyhow::Result<Applied> {
    ensure!(
        asked.yes || asked.dry_run || (std::io::stdin().is_terminal() && !common.json),
        "apply asks before it writes, and there is nobody to ask: say --yes or --dry-run"
    );
    let (source, mut notes) = Source::open(common).await?;
    let loaded = groups::load();
    notes.extend(super::units::groups_note(&loaded));
    let (unit, incidents) = one_unit(&source, &asked.chosen).await?;
    may_change(&unit)?;
    let managers = managers(&common.bus);
    let manager = managers.of(unit.manager).await?;
    let known = situation::live(&managers, &unit, &loaded.groups).await;
    can_take_drop_ins(&unit.name, &known)?;
    notes.extend(known.notes);
    let mut situation = known.situation.with_context(|| format!("the settings of {} cannot be read", unit.name))?;
    if asked.runtime {
        let persistent = std::mem::replace(&mut situation.drop_in, unit_files::runtime_dropin_path(&unit, DROP_IN));
        ensure!(
            !persistent.exists(),
            "{} is there already and would hide one below /run: apply without --runtime, or revert first",
            shown_path(&persistent)
        );
    }
    let diagnosis = diagnose(incidents, Some(&situation), &loaded.groups);
    let remedy = chosen_remedy(&diagnosis, asked.remedy, &unit.name)?;
    let old = dropin::read(&situation.drop_in)?;
    let why = format!(
        "for denials of {}",
        wanted(&diagnosis).into_iter().map(|(_, call)| call).collect::<Vec<_>>().join(" ")
    );
    let undo = format!("harden-why revert {}{}", flag(&unit), unit.name);
    let new = dropin::compose(&remedy.content, &clock.today(), &why, &undo);

    let diff = diff(&lines_of(old.as_deref().unwrap_or_default()), &lines_of(new.as_bytes()));
    notes.extend(cautions(remedy));
    let mut applied = Applied::new(&unit, "dry-run", Some(&situation.drop_in), diff, notes);
    if asked.dry_run {
        return Ok(applied);
    }
    if !asked.yes && !agreed(&applied)? {
        applied.outcome = "declined";
        return Ok(applied);
    }
    let undo = dropin::write(&situation.drop_in, new.as_bytes())?;
    if let Err(error) =
        confirm(&managers, &manager, &unit, &situation, &diagnosis, new.as_bytes(), &loaded.groups).await
    {
        take_back(undo, &manager, &error).await?;
        return Err(error.context(format!("{} was put back as it was", shown_path(&situation.drop_in))));
    }
    (applied.outcome, applied.confirmed) = ("applied", true);
    if asked.restart {
        let Outcome { active_state, result } = manager.restart(&unit.name).await.context("the drop-in is in place")?;
        applied.restarted = Some(Restarted { active_state, result });
    } else {
        applied.notes.push(format!(
            "processes that run already keep the filter of their start: systemctl {}restart {}",
            flag(&unit),
            unit.name
        ));
    }
    Ok(applied)
}

/// Removes the drop-in that apply wrote, be it below /etc, the home or /run.
///
/// # Errors
/// It is somebody else's, or cannot be removed.
pub(super) async fn revert(common: &Common, asked: &Chosen) -> anyhow::Result<Applied> {
    let name = unit_name(asked)?;
    let own = Manager::User(nix::unistd::geteuid().as_raw());
    let candidates = match (asked.system, asked.user) {
        (true, _) => vec![Manager::System],
        (_, true) => vec![own],
        _ => vec![Manager::System, own],
    };
    let managers = managers(&common.bus);
    let mut refused = None;
    for &manager in &candidates {
        let unit = Unit { manager, name: name.clone() };
        let persistent = unit_files::dropin_path(&unit, &situation::home_of(manager), DROP_IN);
        for path in [persistent, unit_files::runtime_dropin_path(&unit, DROP_IN)] {
            let removed = dropin::read(&path).and_then(|old| Ok(dropin::remove(&path)?.map(|undo| (old, undo))));
            let (old, undo) = match removed {
                Ok(Some(removed)) => removed,
                Ok(None) => continue,
                // Another manager's may be ours to remove.
                Err(error) => {
                    refused = refused.or(Some(error));
                    continue;
                }
            };
            let diff = diff(&lines_of(old.as_deref().unwrap_or_default()), &[]);
            let mut applied = Applied::new(&unit, "reverted", Some(&path), diff, Vec::new());
            let reloaded = match managers.of(manager).await {
                Ok(manager) => manager.reload().await,
                Err(error) => Err(error),
            };
            match reloaded {
                Ok(()) => applied.confirmed = true,
                Err(error) => {
                    undo.undo()?;
                    return Err(
                        anyhow::Error::from(error).context(format!("{} was put back as it was", shown_path(&path)))
                    );
                }
            }
            applied.notes.push(format!(
                "processes that run already keep the filter of their start: systemctl {}restart {name}",
                flag(&unit)
            ));
            return Ok(applied);
        }
    }
    if let Some(error) = refused {
        return Err(error.into());
    }
    let unit = Unit { manager: candidates.first().copied().unwrap_or(own), name };
    Ok(Applied::new(&unit, "nothing", None, Vec::new(), Vec::new()))
}

/// The unit's name as the person wrote it.
pub(super) fn unit_name(chosen: &Chosen) -> anyhow::Result<UnitName> {
    super::units::unit_name(&chosen.unit)
}

/// The one unit of the name that has denials, and those.
pub(super) async fn one_unit(source: &Source, chosen: &Chosen) -> anyhow::Result<(Unit, Vec<Incident>)> {
    let name = unit_name(chosen)?;
    let managers = match (chosen.system, chosen.user) {
        (true, _) => Which::System,
        (_, true) => Which::Users,
        _ => Which::All,
    };
    let (incidents, _) = source.incidents(Some(&name), Scope { managers, since: None }).await?;
    let mut units: Vec<(Unit, Vec<Incident>)> = super::explain::by_unit(incidents)
        .into_iter()
        .filter_map(|(unit, incidents)| Some((unit?, incidents)))
        .collect();
    let me = Manager::User(nix::unistd::geteuid().as_raw());
    if chosen.user {
        units.retain(|(unit, _)| unit.manager == me);
    }
    match (units.pop(), units.is_empty()) {
        (None, _) => bail!("no denials of {name} are known, so there is nothing to go by"),
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            bail!("several managers run a unit of the name {name}: say --system, or --user for your own")
        }
    }
}

/// A user's files are that user's to change: what root leaves in a home is in its owner's way, and may be led astray
/// by links.
fn may_change(unit: &Unit) -> anyhow::Result<()> {
    match unit.manager {
        Manager::User(uid) if uid != nix::unistd::geteuid().as_raw() => {
            bail!("{} is run by the manager of uid {uid}: run harden-why apply --user as that user", unit.name)
        }
        _ => Ok(()),
    }
}

fn can_take_drop_ins(name: &UnitName, known: &Known) -> anyhow::Result<()> {
    let Some(facts) = &known.facts else {
        bail!(
            "the manager of {name} does not tell its settings, so nothing it takes could be confirmed: {}",
            known.notes.join("; ")
        )
    };
    ensure!(facts.load_state != "masked", "{name} is masked: systemctl unmask it first");
    ensure!(!facts.transient, "{name} is transient and gone once it stops: change what starts it (systemd-run -p)");
    ensure!(facts.load_state == "loaded", "{name} is not loaded ({}): mend its unit file first", facts.load_state);
    Ok(())
}

fn chosen_remedy<'a>(diagnosis: &'a Diagnosis, asked: Option<usize>, name: &UnitName) -> anyhow::Result<&'a Remedy> {
    let count = diagnosis.remedies.len();
    let index = match asked {
        Some(number) => Some(number.wrapping_sub(1)),
        None => diagnosis.default_remedy(),
    };
    match index.and_then(|index| diagnosis.remedies.get(index)) {
        Some(remedy) => Ok(remedy),
        None if count == 0 => bail!("there is no remedy for the denials of {name}; 'harden-why {name}' tells why"),
        None => bail!("the remedies for {name} are numbered 1 to {count}; 'harden-why {name}' shows them"),
    }
}

/// What one should know of a remedy before it is written.
fn cautions(remedy: &Remedy) -> Vec<String> {
    let mut notes = Vec::new();
    if !remedy.sensitive.is_empty() {
        let calls = remedy.sensitive.iter().map(|(group, call)| format!("{call} ({group})"));
        notes.push(format!(
            "among what it allows can reach beyond the program: {}",
            calls.collect::<Vec<_>>().join(", ")
        ));
    }
    if !remedy.conditional.is_empty() {
        notes.push(format!(
            "not proven for {}: other directives still look at the arguments",
            remedy.conditional.join(", ")
        ));
    }
    notes
}

/// The calls that a remedy is for.
fn wanted(diagnosis: &Diagnosis) -> BTreeSet<(Abi, &str)> {
    let denials = diagnosis
        .findings
        .iter()
        .filter(|finding| finding.cause.is_units())
        .filter_map(|finding| denied(&finding.incident));
    denials.filter_map(|denial| Some((denial.call.abi()?, denial.call.name()?))).collect()
}

/// Has the manager read its files, and holds what it says then against what was predicted.
async fn confirm(
    managers: &Managers,
    manager: &SystemdManager,
    unit: &Unit,
    before: &Situation,
    diagnosis: &Diagnosis,
    written: &[u8],
    groups: &Groups,
) -> anyhow::Result<()> {
    manager.reload().await.context("systemd does not read its files again")?;
    let known = situation::live(managers, unit, groups).await;
    let facts = known.facts.context("systemd does not tell the unit's settings any more")?;
    ensure!(
        facts.dropins.iter().any(|path| is_same_file(path, &before.drop_in)),
        "systemd does not look for drop-ins in {}",
        shown_path(&before.drop_in)
    );
    let predicted = before.policy.with_dropin(&before.drop_in, written, groups);
    let now = known.situation.context("the unit's settings cannot be read any more")?.policy;
    ensure!(known.agrees, "systemd holds other settings than its files say: {}", known.notes.join("; "));
    for (abi, call) in wanted(diagnosis) {
        ensure!(
            now.verdict(abi, call) == predicted.verdict(abi, call),
            "systemd does not do with {call} what was predicted, so the remedy was no remedy"
        );
    }
    Ok(())
}

/// The same file, however its path is spelt.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

async fn take_back(undo: Undo, manager: &SystemdManager, why: &anyhow::Error) -> anyhow::Result<()> {
    undo.undo().with_context(|| format!("{why:#}; and the change could not be taken back"))?;
    let reloaded = manager.reload().await;
    reloaded
        .with_context(|| format!("{why:#}; the change was taken back, but systemd did not read its files again"))?;
    Ok(())
}

/// Asks on the terminal.
fn agreed(applied: &Applied) -> anyhow::Result<bool> {
    let mut out = anstream::stderr();
    let mut notes = Page::default();
    render::notes(&mut notes, &applied.notes);
    write!(out, "{}{}\nWrite it? [y/N] ", applied.plan(), notes.finish())?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn flag(unit: &Unit) -> &'static str {
    if unit.manager == Manager::System { "" } else { "--user " }
}

fn lines_of(bytes: &[u8]) -> Vec<String> {
    crate::audit::text::escape_lines(bytes)
}

/// What goes, what stays and what comes; a drop-in is short.
fn diff(old: &[String], new: &[String]) -> Vec<String> {
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{line}"));
    let rest = new.iter().map(|line| format!("{}{line}", if old.contains(line) { ' ' } else { '+' }));
    gone.chain(rest).collect()
}

impl Applied {
    fn new(unit: &Unit, outcome: &'static str, path: Option<&Path>, diff: Vec<String>, notes: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            unit: unit.name.to_string(),
            manager: unit.manager.to_string(),
            outcome,
            path: path.map(shown_path),
            diff,
            confirmed: false,
            restarted: None,
            notes,
        }
    }

    /// The unit, the file and what changes in it.
    fn plan(&self) -> String {
        let mut page = Page::default();
        page.line(format_args!(
            "{} {}",
            styled(BOLD, &self.unit),
            styled(DIM, format_args!("({})", render::whose(&self.manager)))
        ));
        if let Some(path) = &self.path {
            page.line(format_args!("  {}", styled(PLACE, path)));
        }
        for line in &self.diff {
            let style = match line.as_bytes().first() {
                Some(b'+') => GOOD,
                Some(b'-') => BAD,
                _ => DIM,
            };
            page.line(format_args!("  {}", styled(style, line)));
        }
        page.finish()
    }
}

impl Reply for Applied {
    fn page(&self) -> String {
        let mut page = Page::default();
        page.line(self.plan());
        page.line(match self.outcome {
            "applied" => "Written. systemd has read it, and holds what was predicted.",
            "declined" => "Nothing was changed.",
            "dry-run" => "Nothing was written: this is what apply would write.",
            "reverted" => "Removed. systemd has read its files again.",
            _ => "There is no drop-in of harden-why's to remove.",
        });
        if let Some(Restarted { active_state, result }) = &self.restarted {
            let result = result
                .as_ref()
                .filter(|result| *result != "success")
                .map_or_else(String::new, |result| format!(" ({result})"));
            let style = if active_state == "failed" { BAD } else { GOOD };
            page.line(format_args!("Restarted: it is {}{result}.", styled(style, active_state)));
        }
        render::notes(&mut page, &self.notes);
        page.finish()
    }

    fn found(&self) -> bool {
        !matches!(self.outcome, "declined" | "nothing")
    }
}
