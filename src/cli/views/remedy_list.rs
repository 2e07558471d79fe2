//! The remedies of a unit by number and title, for the completions of `--remedy`.

use super::answer::Answer;
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::{Detail, Reply};
use serde::Serialize;
use std::fmt::Write as _;

/// The remedies that `apply --remedy` can take for one unit.
#[derive(Debug, Serialize)]
pub(crate) struct RemedyList {
    #[serde(skip)]
    titles: Vec<String>,
}

impl RemedyList {
    /// Lists the remedies of the answer. With several answers, `apply` takes no number for all of them.
    pub(crate) fn new(answers: &[Answer]) -> Self {
        let titles = match answers {
            [answer] => answer.remedies.iter().map(|remedy| remedy.title.clone()).collect(),
            _ => Vec::new(),
        };
        Self { titles }
    }
}

impl Reply for RemedyList {
    fn page(&self, _: Detail) -> String {
        self.titles.iter().zip(1..).fold(String::new(), |mut page, (title, number)| {
            // Writing to a string cannot fail.
            _ = writeln!(page, "{number}\t{title}");
            page
        })
    }

    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Done
    }
}
