//! An alert until the journal has it: an incident and the cause of its denial, a summary, or a correction.

use super::explainer::Ticket;
use super::sent_deaths::counts;
use super::silent_deaths::CountedDeath;
use crate::incidents::{IncidentKey, Owner, Stored};
use crate::outlet::alert_summary::Summary;
use crate::outlet::journal::AlertEntry;
use crate::outlet::{Explanation, NoDirective, alert, correction};
use std::time::Instant;

/// A message for the journal.
#[derive(Debug)]
pub(super) enum Alert {
    Incident {
        stored: Box<Stored>,
        cause: AlertCause,
    },
    Summary(Summary),
    /// A death that had an alert has a record after all.
    Correction {
        key: Box<IncidentKey>,
        pid: u32,
    },
}

/// The cause of the denial that an alert reports.
#[derive(Debug)]
pub(super) enum AlertCause {
    /// The alert waits for the answer until this moment.
    Asked(Ticket, Instant),
    /// The explainer answered or cannot answer.
    Known(Explanation),
}

impl Alert {
    /// Returns the owner of its incident; `None` for a summary.
    pub(super) fn owner(&self) -> Option<Owner> {
        match self {
            Self::Incident { stored, .. } => Some(Owner::new(&stored.incident.key, &stored.incident.sample)),
            Self::Correction { key, .. } => Some(Owner::from_unit_or_uid(key.unit.as_ref(), "")),
            Self::Summary(_) => None,
        }
    }

    /// Returns the question whose answer the alert waits for, and until when.
    pub(super) fn question(&self) -> Option<(Ticket, Instant)> {
        match self {
            Self::Incident { cause: AlertCause::Asked(ticket, until), .. } => Some((*ticket, *until)),
            Self::Incident { .. } | Self::Summary(_) | Self::Correction { .. } => None,
        }
    }

    /// Takes the answer to its question.
    pub(super) fn explain(&mut self, explanation: Explanation) {
        if let Self::Incident { cause, .. } = self {
            *cause = AlertCause::Known(explanation);
        }
    }

    /// Subtracts a death that has a record, if it counted the death.
    pub(super) fn subtract(&mut self, death: &CountedDeath) {
        if let Self::Incident { stored, .. } = self
            && counts(&stored.incident.key, &stored.incident.last, death)
        {
            stored.incident.count = stored.incident.count.saturating_sub(1);
        }
    }

    /// Whether a record came after all for each death that it counted.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Incident { stored, .. } if stored.incident.count == 0)
    }

    /// Returns the journal entry. A cause that is still unknown came too late.
    pub(super) fn entry(&self) -> AlertEntry {
        match self {
            Self::Incident { stored, cause } => {
                let late = Explanation::NoDirective(NoDirective::Late);
                let why = if let AlertCause::Known(why) = cause { why } else { &late };
                alert::entry(&stored.incident, Some(stored.id), Some(why))
            }
            Self::Summary(summary) => summary.entry(),
            Self::Correction { key, pid } => correction::entry(key.unit.as_ref(), *pid),
        }
    }
}
