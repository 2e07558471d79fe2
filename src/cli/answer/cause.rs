//! Why, in words.

use super::{CauseView, DirectiveView, join, shown_path};
use crate::audit::{Action, text::escape};
use crate::diagnosis::{Cause, Elsewhere, Finding, denied};
use crate::policy;

impl CauseView {
    pub(super) fn new(finding: &Finding) -> Self {
        let (kind, words, directives): (_, _, &[policy::Cause]) = match &finding.cause {
            Cause::Unit { by, changed: false, .. } => ("unit", format!("the unit's {} it", verb(by)), by),
            Cause::Unit { by, changed: true, .. } => (
                "settings-changed",
                format!(
                    "the unit's {} it, though more strictly than the record says: they were changed since",
                    verb(by)
                ),
                by,
            ),
            Cause::Perhaps { by } => (
                "perhaps-unit",
                format!("possibly the unit's {}: that depends on arguments, which no record tells", names(by)),
                by,
            ),
            Cause::Logged { by } => {
                let words = match by {
                    Some(_) => "the unit's SystemCallLog= lists it; the call was made",
                    None => "a filter logs it, but the unit's SystemCallLog= does not list it; the call was made",
                };
                ("logged", words.to_owned(), by.as_slice())
            }
            Cause::Elsewhere(elsewhere) => ("elsewhere", elsewhere_words(*elsewhere).to_owned(), &[]),
            Cause::Unread => (
                "unread",
                format!(
                    "not known, since the unit's settings were not read; {}, and so do programs' own sandboxes",
                    likely(finding)
                ),
                &[],
            ),
            Cause::Nameless => (
                "nameless",
                "no name is known for this number, so no setting of systemd can name it; an allow-list denies it"
                    .to_owned(),
                &[],
            ),
            Cause::Silent => (
                "silent",
                "not known, since the kernel sent no record: a filter that traps without logging, a signal sent by \
                 another process (kill -SYS), or audit switched off, excluded by a rule or lost"
                    .to_owned(),
                &[],
            ),
        };
        Self { kind, words, directives: directives.iter().map(DirectiveView::new).collect() }
    }
}

impl DirectiveView {
    fn new(cause: &policy::Cause) -> Self {
        Self {
            directive: cause.directive.key(),
            file: cause.origin.as_ref().map(|origin| shown_path(&origin.path)),
            line: cause.origin.as_ref().map(|origin| origin.line),
            effect: cause.effect.map(|effect| effect.to_string()),
            why: escape(cause.why.to_string().as_bytes()),
        }
    }
}

fn names(by: &[policy::Cause]) -> String {
    join(by.iter().map(|cause| format!("{}=", cause.directive.key())))
}

fn verb(by: &[policy::Cause]) -> String {
    format!("{} {}", names(by), if by.len() > 1 { "deny" } else { "denies" })
}

fn elsewhere_words(elsewhere: Elsewhere) -> &'static str {
    match elsewhere {
        Elsewhere::NotSystemdsAction => {
            "not the unit's settings: systemd never acts like this. It was the program's own sandbox, or a container \
             runtime's; SystemCallFilter= has no part in it"
        }
        Elsewhere::Permitted => {
            "not the unit's settings as they are now: they permit the call. Either they were changed since, and the next \
             start is under the new ones, or it was the program's own sandbox; more SystemCallFilter= would not help"
        }
        Elsewhere::Stronger => {
            "not the unit's settings as they are now: they would refuse it with an error at most. Either they were \
             changed since, or it was the program's own sandbox"
        }
    }
}

/// Who acts like this.
fn likely(finding: &Finding) -> &'static str {
    match denied(&finding.incident).map(|denial| denial.action) {
        Some(Action::KillProcess | Action::Kill) => "SystemCallFilter= kills like this",
        Some(Action::KillThread) => "SystemCallArchitectures= kills like this",
        _ => "several directives refuse calls like this",
    }
}
