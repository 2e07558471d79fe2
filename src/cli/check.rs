//! `check`: would the calls seen so far pass, under the unit's settings or with others?

use super::Reply;
use super::answer::{SCHEMA, shown_path};
use super::apply::{one_unit, unit_name};
use super::args::{Check, Common};
use super::page::{BAD, BOLD, DIM, GOOD, PLACE, Page, WARN, styled};
use super::render;
use super::situation::{self, Known};
use super::source::Source;
use super::units::managers;
use crate::diagnosis::denied;
use crate::host::groups;
use crate::policy::unit_file::shown;
use crate::policy::{self, Policy, Verdict};
use crate::syscalls::{Abi, Groups};
use crate::units::Unit;
use anyhow::ensure;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Sorts behind any drop-in.
const LAST: &str = "zzzz-check.conf";

/// What would happen to the calls seen so far.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    schema: u32,
    unit: String,
    manager: String,
    /// Whether every call passes, as far as that can be told without its arguments.
    pass: bool,
    calls: Vec<CallView>,
    notes: Vec<String>,
}

/// What would happen to a call.
#[derive(Debug, Serialize)]
struct CallView {
    call: String,
    arch: &'static str,
    /// `pass`, `depends` (on arguments) or `denied`.
    verdict: &'static str,
    /// What it would meet: `kill` or an errno.
    effect: Option<String>,
    /// The directives that deny it, with file and line where those are known.
    by: Vec<String>,
}

/// Checks the calls that were seen of a unit.
///
/// # Errors
/// Nothing is known of the unit, its settings cannot be read, or a line is none.
pub(super) async fn check(common: &Common, asked: &Check) -> anyhow::Result<Checked> {
    let (source, mut notes) = Source::open(common).await?;
    let loaded = groups::load();
    notes.extend(super::units::groups_note(&loaded));
    let (unit, incidents) = one_unit(&source, &asked.chosen).await?;
    let known = match &asked.root {
        Some(root) => {
            ensure!(root.is_dir(), "{} is no directory to read unit files below", shown_path(root));
            situation::from_files(root, &unit, None, &loaded.groups)
        }
        None => situation::live(&managers(&common.bus), &unit, &loaded.groups).await,
    };
    let Known { situation, notes: more, .. } = known;
    notes.extend(more);
    let Some(situation) = situation else {
        anyhow::bail!("the settings of {} cannot be read: {}", unit_name(&asked.chosen)?, notes.join("; "));
    };
    let policy = with_lines(&situation.policy, &asked.with, &loaded.groups)?;
    let denials = incidents.iter().filter_map(denied);
    let calls: BTreeSet<(Abi, &str)> =
        denials.filter_map(|denial| Some((denial.call.abi()?, denial.call.name()?))).collect();
    Ok(Checked::new(&unit, calls.into_iter().map(|(abi, call)| CallView::new(&policy, abi, call)).collect(), notes))
}

/// The policy with lines that come after all others.
fn with_lines(policy: &Policy, lines: &[String], groups: &Groups) -> anyhow::Result<Policy> {
    if lines.is_empty() {
        return Ok(policy.clone());
    }
    for line in lines {
        let key = line.split_once('=').map(|(key, _)| key.trim());
        let known = key.and_then(policy::Directive::from_key).is_some();
        ensure!(
            known && !line.contains(['\n', '\r', '\0']),
            "{} is no setting that decides on system calls; write --with 'SystemCallFilter=…'",
            shown(line)
        );
    }
    let content = format!("[{}]\n{}\n", policy.settings.section(), lines.join("\n"));
    Ok(policy.with_dropin(Path::new(LAST), content.as_bytes(), groups))
}

impl CallView {
    fn new(policy: &Policy, abi: Abi, call: &str) -> Self {
        let listed = |by: &[policy::Cause]| by.iter().map(place).collect::<Vec<_>>();
        let (verdict, effect, by) = match policy.verdict(abi, call) {
            Verdict::Permitted | Verdict::LogOnly { .. } => ("pass", None, Vec::new()),
            Verdict::Possible { by } => ("depends", None, listed(&by)),
            Verdict::Denied { effect, by, .. } => ("denied", Some(effect.to_string()), listed(&by)),
        };
        Self { call: call.to_owned(), arch: abi.name(), verdict, effect, by }
    }
}

fn place(cause: &policy::Cause) -> String {
    match &cause.origin {
        Some(origin) => format!("{}= at {origin}", cause.directive.key()),
        None => format!("{}=, as systemd holds it", cause.directive.key()),
    }
}

impl Checked {
    fn new(unit: &Unit, calls: Vec<CallView>, notes: Vec<String>) -> Self {
        let pass = calls.iter().all(|call| call.verdict != "denied");
        Self { schema: SCHEMA, unit: unit.name.to_string(), manager: unit.manager.to_string(), pass, calls, notes }
    }
}

impl Reply for Checked {
    fn page(&self) -> String {
        let mut page = Page::default();
        page.line(format_args!(
            "{} {}",
            styled(BOLD, &self.unit),
            styled(DIM, format_args!("({})", render::whose(&self.manager)))
        ));
        for call in &self.calls {
            let (style, words) = match (call.verdict, &call.effect) {
                ("pass", _) => (GOOD, "passes".to_owned()),
                ("depends", _) => (WARN, "depends on its arguments".to_owned()),
                (_, Some(effect)) => (BAD, format!("is denied ({effect})")),
                _ => (BAD, "is denied".to_owned()),
            };
            page.line(format_args!("  {} ({}) {}", call.call, call.arch, styled(style, words)));
            for by in &call.by {
                page.line(format_args!("    {}", styled(PLACE, by)));
            }
        }
        render::notes(&mut page, &self.notes);
        page.finish()
    }

    fn found(&self) -> bool {
        self.pass
    }
}
