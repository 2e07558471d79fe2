//! The views of a bisection: the plan, and the result.

use super::denial_view::DirectiveView;
use super::snippet;
use super::snippet::{Snippet, add_snippet};
use super::survivors::{SurvivorView, add_survivors};
use crate::audit::Note;
use crate::audit::text::{escape, escape_excerpt, join, plural, shown_path};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::{Detail, Reply, SCHEMA};
use crate::cli::terminal::page::{BOLD, DIM, GOOD, PLACE, Page, WARN, add_notes, styled};
use crate::cli::terminal::words::{describe_manager, describe_span};
use crate::diagnosis::bisection::{BisectionResult, Culprit, count_halvings, most_trials};
use crate::operations::bisection::check::TrialCheck;
use crate::operations::bisection::lifting_drop_in::LiftingDropIn;
use crate::operations::bisection::plan::BisectionPlan;
use crate::operations::bisection::run::{BisectionEnd, FinishedBisection};
use crate::operations::outcome::BisectionOutcome;
use crate::policy::{Assignment, Hardening, HardeningLine, KeptHardening, Origin, SourceLine};
use crate::unit_files::rooted::RootedTree;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// The answer after a bisection.
#[derive(Debug, Serialize)]
pub(crate) struct Bisected {
    schema: u32,
    unit: String,
    manager: String,
    pub(crate) outcome: BisectionOutcome,
    /// How many lines the unit's hardening has.
    lines: usize,
    /// The hardening that stays in force whatever is lifted.
    kept: Vec<KeptView>,
    /// The command that decides whether the unit works; null if the unit's state decides.
    check: Option<String>,
    /// How long the unit has to stay active, or the command may fail.
    wait_seconds: f64,
    /// The most restarts without some of the lines.
    most_restarts: usize,
    /// How many restarts it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<usize>,
    /// The lines without which the unit works.
    pub(crate) culprits: Vec<CulpritView>,
    /// What lifts these lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<LiftingRemedy>,
    /// The command that applies a narrower remedy for what was denied during the bisection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) apply: Option<String>,
    /// The command that shows what the unit needs of the lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    narrow: Option<String>,
    /// Its duration in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// The unit afterwards: `restarted`, `stopped` or `left`.
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<&'static str>,
    /// The unit's `ActiveState` afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// What is known of the failure with all lines lifted, escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The processes that outlive the bisection, and run without the unit's own settings until they end.
    survivors: Vec<SurvivorView>,
    pub(crate) notes: Vec<Note>,
    #[serde(skip)]
    words: Vec<String>,
    /// What a dry run shows.
    #[serde(skip)]
    plan: String,
}

/// Hardening that stays in force.
#[derive(Debug, Serialize)]
struct KeptView {
    directive: String,
    file: String,
    line: u32,
    why: &'static str,
}

impl KeptView {
    fn new(KeptHardening { key, line, why }: &KeptHardening) -> Self {
        let Origin { path, line } = &line.origin;
        Self { directive: key.to_string(), file: shown_path(path), line: *line, why }
    }

    fn describe(&self) -> String {
        format!("{}= at {}:{} ({})", self.directive, self.file, self.line, self.why)
    }
}

/// A line without which the unit works.
#[derive(Debug, Serialize)]
pub(crate) struct CulpritView {
    #[serde(flatten)]
    pub(crate) line: BisectedLine,
    /// The lines with which it keeps the unit from working; none if it does that by itself.
    with: Vec<BisectedLine>,
}

/// A line of a unit's hardening.
#[derive(Debug, Serialize)]
pub(crate) struct BisectedLine {
    /// Its key.
    pub(crate) directive: String,
    /// Its value, escaped.
    value: String,
    /// The file.
    file: String,
    /// The line in it.
    line: u32,
    /// The file and line by which systemd names it.
    #[serde(skip)]
    named_place: String,
    /// The further lines of a list, each as file and line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<String>,
    /// Its text in the file, if the caller may read it.
    #[serde(serialize_with = "snippet::serialize_line", skip_serializing_if = "Option::is_none")]
    source: Option<SourceLine>,
}

/// A drop-in that lifts the lines. The bisection has seen the unit work with it.
#[derive(Debug, Serialize)]
struct LiftingRemedy {
    drop_in: String,
    content: String,
}

impl Bisected {
    /// The view of a bisection that was not begun.
    pub(crate) fn planned(plan: &BisectionPlan, outcome: BisectionOutcome) -> Self {
        let unit = &plan.target.unit;
        let TrialCheck { command, wait, .. } = &plan.check;
        let kept = plan.hardening.kept().iter();
        Self {
            schema: SCHEMA,
            unit: unit.name.to_string(),
            manager: unit.manager.to_string(),
            outcome,
            lines: plan.hardening.lines().len(),
            kept: kept.map(KeptView::new).collect(),
            check: command.as_deref().map(escape_excerpt),
            wait_seconds: wait.as_secs_f64(),
            most_restarts: plan.most,
            restarts: None,
            culprits: Vec::new(),
            remedy: None,
            apply: None,
            narrow: None,
            seconds: None,
            then: None,
            state: None,
            detail: None,
            survivors: Vec::new(),
            notes: plan.target.notes.clone(),
            words: Vec::new(),
            plan: if outcome == BisectionOutcome::DryRun { describe_plan(plan) } else { String::new() },
        }
    }

    /// The view of a finished bisection. The lines are read below a root, with the rights of the caller.
    pub(crate) fn finished(plan: &BisectionPlan, finished: &FinishedBisection, root: &Path) -> Self {
        let FinishedBisection { end, detail, restarts, took, restoration, survivors } = finished;
        let (outcome, culprits) = match end {
            BisectionEnd::Result(BisectionResult::Works) => (BisectionOutcome::Works, Vec::new()),
            BisectionEnd::Result(BisectionResult::NotHardening) => (BisectionOutcome::NotHardening, Vec::new()),
            BisectionEnd::Result(BisectionResult::Contradictory) => (BisectionOutcome::Contradictory, Vec::new()),
            BisectionEnd::Result(BisectionResult::Found(culprits)) => (BisectionOutcome::Found, culprits.clone()),
            BisectionEnd::Limit(lifted) => {
                let culprit = |line: &usize| Culprit { line: *line, partners: BTreeSet::new() };
                (BisectionOutcome::Limit, lifted.iter().map(culprit).collect())
            }
        };
        let mut view = Self::planned(plan, outcome);
        let tree = RootedTree::new(root);
        let find = |line: &usize| plan.hardening.lines().get(*line).map(|line| BisectedLine::new(line, &tree));
        view.culprits = culprits
            .iter()
            .filter_map(|culprit| {
                Some(CulpritView {
                    line: find(&culprit.line)?,
                    with: culprit.partners.iter().filter_map(find).collect(),
                })
            })
            .collect();
        // The limit came before anything is known of the single lines.
        let is_all = outcome == BisectionOutcome::Limit && culprits.len() == view.lines && view.lines > 1;
        let lifted = culprits.iter().map(|culprit| culprit.line).collect();
        view.remedy = LiftingDropIn::compose(plan, &lifted)
            .filter(|_| !is_all)
            .map(|LiftingDropIn { path, content }| LiftingRemedy { drop_in: shown_path(&path), content });
        view.narrow = view.remedy.as_ref().map(|_| narrowing_command(plan, &view.culprits));
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        (view.restarts, view.seconds) = (Some(*restarts), Some(seconds));
        view.then = Some(restoration.action.as_str());
        view.state = restoration.outcome.as_ref().map(|outcome| escape(outcome.active_state.as_bytes()));
        view.detail = detail.clone().filter(|_| outcome == BisectionOutcome::NotHardening);
        view.survivors = survivors.iter().map(SurvivorView::new).collect();
        view.notes.extend(restoration.notes.iter().cloned());
        view.words = vec![describe_result(&view), restoration.describe(&view.unit)];
        view
    }

    /// Returns the keys of all lines that keep the unit from working.
    pub(crate) fn culprit_keys(&self) -> BTreeSet<&str> {
        self.culprits.iter().map(|culprit| culprit.line.directive.as_str()).collect()
    }

    /// Returns whether all of these directives stand in lines whose lifting helped: the same key, file and line.
    pub(crate) fn is_by_culprits(&self, directives: &[DirectiveView]) -> bool {
        let is_culprit = |cause: &DirectiveView| self.culprits.iter().any(|culprit| culprit.line.holds(cause));
        !directives.is_empty() && directives.iter().all(is_culprit)
    }

    /// Adds the lines, each with what it does.
    fn add_culprits(&self, page: &mut Page, detail: Detail) {
        /// The most lines that the page shows in full without `--verbose`.
        const SHOWN: usize = 3;
        let shown = if detail == Detail::Full { self.culprits.len() } else { SHOWN };
        let is_single = self.culprits.len() == 1;
        for (index, culprit) in self.culprits.iter().take(shown).enumerate() {
            let label = match (self.outcome, &culprit.with[..]) {
                (BisectionOutcome::Limit, _) if !is_single => "perhaps not this one",
                (_, []) if is_single => "without this line it works",
                (_, []) if index == 0 => "has to go",
                (_, []) => "has to go as well",
                (_, [_]) => "without this line it works, or without the next one",
                _ => "without this line it works, or without one of the next ones",
            };
            culprit.line.add_to_page(page, label, is_single && culprit.with.is_empty());
            for partner in &culprit.with {
                partner.add_to_page(page, "harmful only together with the line above", false);
            }
        }
        let rest = self.culprits.iter().skip(shown).map(|culprit| culprit.line.place());
        if self.culprits.len() > shown {
            page.hanging((2, 4), &format!("and: {}", join(rest)));
        }
    }

    fn add_remedy(&self, page: &mut Page) {
        let Some(LiftingRemedy { drop_in, content }) = &self.remedy else { return };
        if let Some(apply) = &self.apply {
            page.hanging((0, 2), &format!("{} allow what was denied:", styled(BOLD, "help:")));
            page.gap();
            page.line(format_args!("  {}", styled(GOOD, apply)));
            page.gap();
            page.paragraph(0, "or lift what was found, as the bisection did:");
        } else {
            let lifts = if self.culprits.len() == 1 { "lift the line" } else { "lift these lines" };
            page.hanging((0, 2), &format!("{} {lifts}, as the bisection did:", styled(BOLD, "help:")));
        }
        page.line(format_args!("  {}", styled(PLACE, drop_in)));
        for line in content.lines() {
            page.line(format_args!("  {}", styled(GOOD, escape(line.as_bytes()))));
        }
        if let Some(narrow) = self.narrow.as_ref().filter(|_| self.apply.is_none()) {
            page.paragraph(0, "To see what the unit needs of it, and allow only that:");
            page.gap();
            page.line(format_args!("  {}", styled(GOOD, narrow)));
        }
    }
}

impl Reply for Bisected {
    fn page(&self, detail: Detail) -> String {
        let mut page = Page::default();
        match self.outcome {
            BisectionOutcome::Declined => page.line("Nothing was changed."),
            BisectionOutcome::DryRun => {
                page.line(self.plan.trim_end());
                page.line("Nothing was changed (--dry-run).");
            }
            _ => {}
        }
        let mut words = self.words.iter();
        if let Some(result) = words.next() {
            page.hanging((0, 2), result);
        }
        self.add_culprits(&mut page, detail);
        words.for_each(|words| page.paragraph(0, words));
        if self.outcome == BisectionOutcome::NotHardening && !self.kept.is_empty() {
            let kept = join(self.kept.iter().map(KeptView::describe));
            page.paragraph(0, &format!("A line that stayed in force can be the reason: {kept}."));
        }
        self.add_remedy(&mut page);
        add_survivors(&mut page, &self.survivors, "bisection");
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        match self.outcome {
            BisectionOutcome::Found
            | BisectionOutcome::Limit
            | BisectionOutcome::NotHardening
            | BisectionOutcome::Contradictory => ExitStatus::Found,
            BisectionOutcome::Works | BisectionOutcome::DryRun => ExitStatus::Done,
            BisectionOutcome::Declined => ExitStatus::Failed,
        }
    }
}

impl BisectedLine {
    fn new(HardeningLine { first, more }: &HardeningLine, tree: &RootedTree<'_>) -> Self {
        let Assignment { key, value, origin, .. } = first;
        let source = tree.read(&origin.path).ok();
        let source = source.and_then(|contents| SourceLine::find(&contents, origin.line, key, None));
        Self {
            directive: key.to_string(),
            value: escape_excerpt(value),
            file: shown_path(&origin.path),
            line: source.as_ref().map_or(origin.line, |source| source.number),
            named_place: escape(origin.to_string().as_bytes()),
            more: more.iter().map(|line| escape(line.origin.to_string().as_bytes())).collect(),
            source,
        }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// Whether a directive stands in this line, or in a further one of its list.
    fn holds(&self, cause: &DirectiveView) -> bool {
        let place = cause.file.as_ref().zip(cause.line).map(|(file, line)| format!("{file}:{line}"));
        let is_here = |place: String| self.more.contains(&place) || self.named_place == place || self.place() == place;
        self.directive == cause.directive && place.is_some_and(is_here)
    }

    fn add_to_page(&self, page: &mut Page, label: &str, is_framed: bool) {
        let more = match &self.more[..] {
            [] => String::new(),
            more => format!(", with its list at {}", join(more.iter().cloned())),
        };
        let marks = vec![(self.source.as_ref(), format!("{label}{more}"))];
        let place = match self.source {
            Some(_) => self.place(),
            None => format!("{} ({}={})", self.place(), self.directive, self.value),
        };
        add_snippet(page, &Snippet { place, marks }, is_framed);
    }
}

/// Returns the command that shows what the unit needs of lines.
fn narrowing_command(plan: &BisectionPlan, culprits: &[CulpritView]) -> String {
    let unit = &plan.target.unit;
    let is_filter = culprits.iter().all(|culprit| culprit.line.directive.starts_with("SystemCall"));
    let verb = if is_filter { "rehearse" } else { "tap --restart" };
    format!("harden-why {verb} {}", unit.to_arguments())
}

/// Says what was found, in a sentence.
fn describe_result(view: &Bisected) -> String {
    let name = styled(BOLD, &view.unit);
    let took = plural(view.restarts.unwrap_or_default() as u64, "restart");
    let lines = plural(view.lines as u64, "hardening line");
    let check = if view.check.is_some() { "passes the check" } else { "works" };
    match view.outcome {
        BisectionOutcome::Works => {
            format!("{name} {check} with all of its {lines} in force ({took}): there is nothing to find.")
        }
        BisectionOutcome::NotHardening => {
            let why = view.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
            format!("{name} also does not work with all of its {lines} lifted ({took}){why}.")
        }
        BisectionOutcome::Contradictory => format!(
            "{name} worked and did not work with the same lines lifted ({took}): something else decides as well, so no line \
             is named."
        ),
        BisectionOutcome::Limit if view.culprits.len() == 1 => format!(
            "{name} {check} without 1 of its {lines}; the limit of {took} came before the repetition that confirms it \
             (--restarts)."
        ),
        BisectionOutcome::Limit => format!(
            "{name} {check} without these {} of its {lines}, and perhaps without fewer: the limit of {took} came \
            first (--restarts).",
            view.culprits.len()
        ),
        _ => match &view.culprits[..] {
            [CulpritView { with, .. }] if with.is_empty() => {
                format!("{name} does not work because of 1 of its {lines} ({took}):")
            }
            [CulpritView { with, .. }] => {
                let count = with.len() + 1;
                format!("{name} does not work because of {count} of its {lines} together ({took}):")
            }
            culprits => format!("{name} does not work because of {} of its {lines} ({took}):", culprits.len()),
        },
    }
}

/// Describes a bisection before it begins: what it lifts, and how often it restarts the unit.
pub(crate) fn describe_plan(plan: &BisectionPlan) -> String {
    let target = &plan.target;
    let mut page = Page::default();
    let whose = describe_manager(&target.unit.manager.to_string());
    page.line(format_args!("{} {}", styled(BOLD, &target.unit.name), styled(DIM, format_args!("({whose})"))));
    page.line(format_args!("  {}", styled(PLACE, shown_path(&target.path))));
    let count = plan.hardening.lines().len();
    let text = format!(
        "It is restarted several times, each time without some of its {}, and once without all of them. It runs less \
        protected than its settings say until the end.",
        plural(count as u64, "hardening line")
    );
    page.paragraph(2, &styled(WARN, text));
    page.field("lifted", &describe_keys(&plan.hardening));
    for kept in plan.hardening.kept() {
        page.field("kept", &format!("{}=: {}", kept.key, kept.why));
    }
    let TrialCheck { command, wait, is_oneshot } = &plan.check;
    let check = match command {
        Some(command) => {
            format!("{} succeeds within {} of the start", escape_excerpt(command), describe_span(*wait))
        }
        None if *is_oneshot => "its start succeeds".to_owned(),
        None => format!("it stays active for {}", describe_span(*wait)),
    };
    page.field("works", &format!("if {check}"));
    page.field("takes", &describe_restarts(count, plan.most));
    let then = if target.marker.ran { "started under its own settings" } else { "left stopped, as it is now" };
    page.field("ends", &format!("when the lines are found, or on Ctrl-C; then it is stopped, and {then}"));
    page.finish()
}

fn describe_restarts(count: usize, most: usize) -> String {
    let (one, two) = most_trials(count);
    let halvings = count_halvings(count);
    let limit = if most == two { String::new() } else { format!("; it stops after {most} (--restarts)") };
    format!(
        "at most {one} restarts if one line is the reason, {two} if two are: {halvings} halve {}, and the others prove the \
        result{limit}",
        plural(count as u64, "line")
    )
}

/// Returns the keys of the lines, each with its count if it has several.
fn describe_keys(hardening: &Hardening) -> String {
    let mut keys: Vec<(&str, usize)> = Vec::new();
    for line in hardening.lines() {
        match keys.last_mut().filter(|(key, _)| *key == &*line.first.key) {
            Some((_, count)) => *count += 1,
            None => keys.push((&line.first.key, 1)),
        }
    }
    let name = |(key, count): (&str, usize)| match count {
        1 => format!("{key}="),
        count => format!("{key}= ({count} lines)"),
    };
    join(keys.into_iter().map(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directive_is_of_a_found_line_by_key_and_place() {
        let line = BisectedLine {
            directive: "SystemCallFilter".to_owned(),
            value: "@system-service".to_owned(),
            file: "/etc/x.service".to_owned(),
            line: 4,
            named_place: "/etc/x.service:6".to_owned(),
            more: vec!["/etc/x.service.d/a.conf:2".to_owned()],
            source: None,
        };
        let holds = |directive: &'static str, file: Option<&str>, number: Option<u32>| {
            line.holds(&DirectiveView {
                directive,
                file: file.map(ToOwned::to_owned),
                line: number,
                effect: None,
                why: String::new(),
                does: (String::new(), String::new()),
                source: None,
            })
        };
        let filter = "SystemCallFilter";
        for (file, number) in [("/etc/x.service", 4), ("/etc/x.service", 6), ("/etc/x.service.d/a.conf", 2)] {
            assert!(holds(filter, Some(file), Some(number)), "{file}:{number}");
            assert!(!holds("RestrictNamespaces", Some(file), Some(number)), "another key");
        }
        for (file, number) in [(Some("/etc/x.service"), Some(5)), (Some("/etc/y.service"), Some(4)), (None, None)] {
            assert!(!holds(filter, file, number), "{file:?} {number:?}");
        }
    }
}
