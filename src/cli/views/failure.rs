//! A failure that left no record, as data: the lines of the unit that can be the cause.

use super::snippet;
use crate::audit::text::{escape, shown_path};
use crate::diagnosis::{FailureDiagnosis, FailureKind, PossibleCause};
use crate::operations::permission::{owner_command, root_command};
use crate::policy::SourceLine;
use crate::policy::errno;
use crate::unit_files::rooted::RootedTree;
use crate::units::{Manager, Unit};
use serde::Serialize;
use std::path::Path;

/// A failure without a record.
#[derive(Debug, Serialize)]
pub struct FailureView {
    /// The exit status by which systemd says that it did not execute the program; null if the program itself failed.
    pub status: Option<u8>,
    /// The name of systemd's step, such as `NAMESPACE`.
    pub step: Option<&'static str>,
    /// The message of the program, escaped.
    pub message: Option<String>,
    /// Other messages for which a line can be the cause, the latest first. Escaped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_messages: Vec<String>,
    /// Whether the messages are of an earlier run than the one that failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub of_earlier_run: bool,
    /// The lines that can be the cause, the likeliest first. None is proven.
    pub possible_causes: Vec<PossibleCauseView>,
    /// The command that shows whether one of them is.
    pub check: String,
}

/// A line that can be the cause.
#[derive(Debug, Serialize)]
pub struct PossibleCauseView {
    /// Its key.
    pub directive: String,
    /// The file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The error that it gives.
    pub errno: Option<String>,
    /// What it does.
    pub why: String,
    /// What surely helps.
    pub fix: Option<String>,
    /// Lines of a drop-in that may help together, which nothing proves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines_to_try: Vec<String>,
    /// What it needs besides, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub also_needed: Option<String>,
    /// Its line in the file, if the caller may read it.
    #[serde(serialize_with = "snippet::serialize_line", skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
}

impl FailureView {
    /// Makes the view of a unit's failure. The lines are read below a root, with the rights of the caller.
    #[must_use]
    pub fn new(unit: &Unit, found: &FailureDiagnosis, root: &Path) -> Self {
        let (status, step, message) = match &found.kind {
            FailureKind::BeforeProgram(status, name) => (Some(*status), Some(*name), None),
            FailureKind::InProgram(text) => (None, None, Some(escape(text.as_bytes()))),
        };
        let tree = RootedTree::new(root);
        let possible_causes = found.causes.iter().map(|cause| PossibleCauseView::new(cause, &tree)).collect();
        let arguments = unit.to_arguments();
        let is_filter = found.causes.iter().any(|cause| cause.key.starts_with("SystemCall"));
        let is_missing = found.causes.first().is_some_and(|cause| cause.fix.is_some());
        let check = match (&found.kind, is_filter) {
            // A tap sees what a program is denied, and how systemd looks for it; but not that a path is missing.
            (FailureKind::BeforeProgram(200 | 203, _), false) if !is_missing => {
                format!("harden-why tap --restart {arguments}")
            }
            (FailureKind::InProgram(_), false) => {
                format!("harden-why tap --restart {arguments}")
            }
            (FailureKind::BeforeProgram(203, _) | FailureKind::InProgram(_), true) => {
                format!("harden-why rehearse {arguments}")
            }
            _ => {
                let reread = match found.causes.first().and_then(|cause| cause.origin.as_ref()) {
                    // Without `--full`, it edits a drop-in, which can only add to a list.
                    Some(origin) if !is_in_drop_in(&origin.path) => unit.systemctl("edit --full"),
                    _ => unit.manager.systemctl("daemon-reload"),
                };
                format!("{reread} && {}", unit.systemctl("restart"))
            }
        };
        let other_messages = found.others.iter().map(|text| escape(text.as_bytes())).collect();
        let of_earlier_run = found.is_of_earlier_run;
        Self { status, step, message, other_messages, of_earlier_run, possible_causes, check }
    }

    /// Writes the command as this process's user has to type it, for a unit of this machine.
    pub(crate) fn add_rights(&mut self, manager: Manager) {
        let is_tap = self.check.starts_with("harden-why tap");
        let add = |command: &str| if is_tap { root_command(command) } else { owner_command(manager, command) };
        self.check = self.check.split(" && ").map(add).collect::<Vec<_>>().join(" && ");
    }
}

/// Returns whether a file is a drop-in and not the unit file.
fn is_in_drop_in(path: &Path) -> bool {
    path.parent().and_then(Path::extension).is_some_and(|extension| extension == "d")
}

impl PossibleCauseView {
    fn new(cause: &PossibleCause, tree: &RootedTree<'_>) -> Self {
        let source = cause.origin.as_ref().and_then(|origin| {
            SourceLine::find(&tree.read(&origin.path).ok()?, origin.line, &cause.key, cause.word.as_deref())
        });
        Self {
            directive: cause.key.to_string(),
            file: cause.origin.as_ref().map(|origin| shown_path(&origin.path)),
            line: source.as_ref().map(|source| source.number).or(cause.origin.as_ref().map(|origin| origin.line)),
            errno: cause.errno.and_then(errno::name),
            why: cause.does.clone(),
            fix: cause.fix.clone(),
            lines_to_try: cause.lines_to_try.clone(),
            also_needed: cause.also_needed.clone(),
            source,
        }
    }

    /// Returns the file and line.
    pub(super) fn place(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => format!("{}=, as systemd holds it", self.directive),
        }
    }
}
