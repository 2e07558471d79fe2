//! The progress of a bisection: a line for each restart.

use crate::audit::text::plural;
use crate::cli::terminal::output::print_remark;
use crate::cli::terminal::page::{DIM, WARN};
use crate::operations::bisection::check::TrialOutcome;
use crate::operations::bisection::plan::BisectionPlan;
use crate::operations::bisection::run::BisectionObserver;
use anstream::ColorChoice;
use std::collections::BTreeSet;

/// The progress of a bisection on the terminal.
pub(crate) struct BisectionProgress {
    /// The unit's name.
    name: String,
    count: usize,
    most: usize,
    color: ColorChoice,
    /// Whether only a program reads the output.
    is_silent: bool,
    /// The start of the line about the running trial.
    trial: String,
}

impl BisectionProgress {
    /// The progress of a bisection that has not begun.
    pub(crate) fn new(plan: &BisectionPlan, color: ColorChoice, is_silent: bool) -> Self {
        let name = plan.target.unit.name.to_string();
        let (count, most) = (plan.hardening.lines().len(), plan.most);
        Self { name, count, most, color, is_silent, trial: String::new() }
    }

    fn say(&self, style: anstyle::Style, text: &str) {
        if !self.is_silent {
            print_remark(self.color, style, text);
        }
    }
}

impl BisectionObserver for BisectionProgress {
    fn show_trial(&mut self, number: usize, lifted: &BTreeSet<usize>) {
        let what = match lifted.len() {
            0 => "with all lines in force".to_owned(),
            all if all == self.count => format!("without any of {}", plural(all as u64, "line")),
            some => format!("without {some} of {}", plural(self.count as u64, "line")),
        };
        if number == 1 {
            self.say(WARN, &format!("{} is being bisected, in at most {} restarts", self.name, self.most));
        }
        self.trial = format!("restart {number}: {what}");
    }

    fn show_outcome(&mut self, outcome: &TrialOutcome) {
        let how = if outcome.works { "it works" } else { "it does not work" };
        let detail = outcome.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        self.say(DIM, &format!("{} {how}{detail}", self.trial));
    }

    fn show_end(&mut self) {
        self.say(DIM, &format!("{} stops and gets its own settings back", self.name));
    }
}
