//! `metrics`: denials and the daemon's counters for Prometheus.

use crate::cli::args::{Common, MetricsArgs, StateDir};
use crate::cli::exit_status::{ExitStatus, UsageError};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, OtherSource, UnitIncidents};
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::verbs::overview::examined::{DiagnosedUnit, diagnose_units};
use crate::diagnosis::Finding;
use crate::incidents::{IncidentEvent, Moment, UnitSummary, name_access};
use crate::operations::whole_file::replace;
use crate::outlet::metrics::MetricKind::{Counter, Gauge};
use crate::outlet::metrics::{Metric, MetricLabels, MetricsFormat, render, split_greatest};
use crate::outlet::wire::Status;
use crate::units::Unit;
use anyhow::{Context as _, ensure};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// The most series of denials; a documented limit.
const MOST_DENIAL_SERIES: usize = 1_000;
/// The most series of a metric with one value for each unit.
const MOST_UNIT_SERIES: usize = 250;

/// The metrics.
#[derive(Debug, Serialize)]
pub(crate) struct MetricsAnswer {
    schema: u32,
    #[serde(serialize_with = "serialize_metrics")]
    metrics: Vec<Metric>,
}

/// A metric in JSON.
#[derive(Debug, Serialize)]
struct MetricView<'a> {
    name: &'a str,
    /// `counter` or `gauge`.
    kind: &'static str,
    help: &'a str,
    samples: Vec<SampleView<'a>>,
}

/// A value of a metric in JSON.
#[derive(Debug, Serialize)]
struct SampleView<'a> {
    labels: &'a MetricLabels,
    value: u64,
}

fn serialize_metrics<S: Serializer>(metrics: &[Metric], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(metrics.iter().map(|Metric { name, kind, help, samples }| MetricView {
        name,
        kind: kind.as_str(),
        help,
        samples: samples.iter().map(|sample| SampleView { labels: &sample.labels, value: sample.value }).collect(),
    }))
}

/// Collects the metrics. Where harden-whyd does not answer, `harden_why_up` is 0 and the only one with its build.
pub(crate) async fn metrics(common: &Common) -> MetricsAnswer {
    let mut metrics = vec![build_info()];
    let opened = Context::open(common, &StateDir::default(), OtherSource::Nothing).await;
    let status = match &opened {
        Ok(context) => context.incidents.status().await,
        Err(_) => None,
    };
    metrics.push(Metric::single("harden_why_up", Gauge, "Whether harden-whyd answers.", status.is_some().into()));
    if let Some((context, status)) = opened.ok().as_ref().zip(status.as_ref()) {
        metrics.extend(status_metrics(status));
        metrics.extend(denial_metrics(context).await);
    }
    MetricsAnswer { schema: SCHEMA, metrics }
}

fn build_info() -> Metric {
    let labels = MetricLabels::from([("version", env!("CARGO_PKG_VERSION").to_owned())]);
    Metric::bounded_gauge("harden_why_build_info", "The version of harden-why.", BTreeMap::from([(labels, 1)]), 1)
}

fn status_metrics(status: &Status) -> Vec<Metric> {
    let since = u64::try_from(status.since).unwrap_or_default() / 1_000;
    [
        ("harden_why_listening", Gauge, "Whether harden-whyd receives records.", status.listening.into()),
        ("harden_why_listening_since_timestamp_seconds", Gauge, "When harden-whyd began to receive records.", since),
        ("harden_why_records_total", Counter, "Records of the kernel.", status.records),
        ("harden_why_lost_records_total", Counter, "Audit events that were lost before harden-whyd.", status.lost),
        ("harden_why_overruns_total", Counter, "Overruns of the receive buffer.", status.overruns),
        ("harden_why_dropped_sightings_total", Counter, "Sightings that memory had no room for.", status.dropped),
        ("harden_why_evicted_incidents_total", Counter, "Incidents that the store had no room for.", status.evicted),
        ("harden_why_malformed_records_total", Counter, "Records that harden-whyd cannot parse.", status.malformed),
        (
            "harden_why_skipped_calls_total",
            Counter,
            "Failed calls that harden-whyd did not look at.",
            status.calls_skipped,
        ),
        ("harden_why_store_writable", Gauge, "Whether the store can be written.", status.store_error.is_none().into()),
        (
            "harden_why_alerts_delivered",
            Gauge,
            "Whether alerts reach the journal.",
            status.journal_error.is_none().into(),
        ),
        (
            "harden_why_limitations",
            Gauge,
            "The number of things that harden-whyd cannot see here; harden-why status lists them.",
            status.limitations.len() as u64,
        ),
    ]
    .into_iter()
    .map(|(name, kind, help, value)| Metric::single(name, kind, help, value))
    .collect()
}

/// The metrics by unit, and how many incidents they leave out.
async fn denial_metrics(context: &Context) -> Vec<Metric> {
    let scope = IncidentScope::default();
    let summaries = context.incidents.units(scope).await;
    let found = context.incidents.all_incidents(scope).await;
    let mut metrics = reading_metrics(summaries.as_deref().ok(), found.as_ref().ok());
    if let (Ok(summaries), Ok(found)) = (summaries, found) {
        let units: Vec<Option<Unit>> = summaries.into_iter().map(|summary| summary.unit).collect();
        let diagnosed = diagnose_units(context, &units, found.incidents, false).await;
        metrics.extend(count_denials(units.iter().zip(&diagnosed)));
    }
    metrics
}

/// The metrics about what was read of the store: the totals of its units, and its incidents.
fn reading_metrics(summaries: Option<&[UnitSummary]>, found: Option<&UnitIncidents>) -> Vec<Metric> {
    let is_read = summaries.is_some() && found.is_some();
    let readable = "Whether the denials can be read. If not, the metrics about them are missing.";
    let mut metrics = vec![Metric::single("harden_why_denials_readable", Gauge, readable, is_read.into())];
    if let Some(summaries) = summaries {
        let stored = summaries.iter().map(|summary| summary.incidents).fold(0, u64::saturating_add);
        let read = found.map_or(0, |found| found.incidents.len() as u64);
        let help = "Different denials that are stored, and that no other metric counts.";
        metrics.push(Metric::single("harden_why_unread_incidents", Gauge, help, stored.saturating_sub(read)));
    }
    metrics
}

fn count_denials<'a>(units: impl Iterator<Item = (&'a Option<Unit>, &'a DiagnosedUnit)>) -> Vec<Metric> {
    let (mut denials, mut incidents, mut latest) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut unattributed = 0_u64;
    for (unit, DiagnosedUnit { diagnosis, .. }) in units {
        let named = unit_labels(unit.as_ref());
        for finding in &diagnosis.findings {
            let count = finding.incident.count;
            unattributed = unattributed.saturating_add(if unit.is_none() { count } else { 0 });
            let mut labels = named.clone();
            labels.extend(denial_labels(finding));
            let total: &mut u64 = denials.entry(labels).or_default();
            *total = total.saturating_add(count);
            *incidents.entry(named.clone()).or_insert(0_u64) += 1;
            if let Moment::At(millis) = finding.incident.last {
                let seconds = u64::try_from(millis).unwrap_or_default() / 1_000;
                let last: &mut u64 = latest.entry(named.clone()).or_default();
                *last = seconds.max(*last);
            }
        }
    }
    let help = "Denials by unit, kind, call or access, and directive.";
    let (denials, others) = Metric::bounded_counter("harden_why_denials_total", help, denials, MOST_DENIAL_SERIES);
    let help = "Denials that harden_why_denials_total leaves out, because its series would be too many.";
    vec![
        denials,
        Metric::single("harden_why_other_denials", Gauge, help, others),
        Metric::single("harden_why_unattributed_denials_total", Counter, "Denials of unknown units.", unattributed),
        Metric::bounded_gauge("harden_why_incidents", "Different denials by unit.", incidents, MOST_UNIT_SERIES),
        newest("harden_why_last_denial_timestamp_seconds", "The latest denial by unit.", latest),
    ]
}

/// A metric of times: those of the units with the newest, since the sum of others means nothing.
fn newest(name: &'static str, help: &'static str, latest: BTreeMap<MetricLabels, u64>) -> Metric {
    let (samples, _) = split_greatest(latest, MOST_UNIT_SERIES);
    Metric { name, kind: Gauge, help, samples }
}

fn unit_labels(unit: Option<&Unit>) -> MetricLabels {
    let name = unit.map_or_else(String::new, |unit| unit.name.to_string());
    let manager = unit.map_or_else(String::new, |unit| unit.manager.to_string());
    MetricLabels::from([("name", name), ("manager", manager)])
}

/// The labels of a denial. A call without a name has none of its own: processes can make up 2^32 numbers.
fn denial_labels(finding: &Finding) -> MetricLabels {
    let (kind, what) = match &finding.incident.key.event {
        IncidentEvent::Denial(denial) => ("call", denial.call.name().unwrap_or("(unnamed)").to_owned()),
        IncidentEvent::Access(denial) => ("access-denial", name_access(&denial.access)),
        IncidentEvent::UnrecordedDeath => ("unrecorded-death", String::new()),
    };
    let directive = finding.cause.directives().first().map_or("", |cause| cause.directive.key());
    MetricLabels::from([("kind", kind.to_owned()), ("what", what), ("directive", directive.to_owned())])
}

/// Writes the metrics to a file in one step, readable for all: node_exporter never sees a part of it.
///
/// # Errors
/// The file cannot be written, or `--json` is given.
pub(crate) fn write_textfile(
    common: &Common,
    asked: &MetricsArgs,
    answer: &MetricsAnswer,
) -> anyhow::Result<Option<ExitStatus>> {
    let Some(file) = &asked.textfile else { return Ok(None) };
    ensure!(!common.is_json(), UsageError("--textfile writes the format of Prometheus: leave out --json".to_owned()));
    let text = render(&answer.metrics, MetricsFormat::Prometheus);
    replace(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Some(ExitStatus::Done))
}

impl Reply for MetricsAnswer {
    fn page(&self, _: Detail) -> String {
        render(&self.metrics, MetricsFormat::OpenMetrics)
    }

    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_that_are_not_read_are_counted() {
        let summary = |incidents| UnitSummary { unit: None, incidents, count: 9, last: Moment::Unknown };
        let values = |summaries: Option<&[UnitSummary]>, found: Option<&UnitIncidents>| {
            let metrics = reading_metrics(summaries, found);
            metrics.iter().map(|metric| (metric.name, metric.samples[0].value)).collect::<Vec<_>>()
        };
        let none = UnitIncidents { incidents: Vec::new(), complete: false };
        let (readable, unread) = ("harden_why_denials_readable", "harden_why_unread_incidents");
        let stored = [summary(2), summary(3)];
        assert_eq!(values(Some(&stored), Some(&none)), [(readable, 1), (unread, 5)]);
        assert_eq!(values(Some(&stored), None), [(readable, 0), (unread, 5)]);
        assert_eq!(values(None, Some(&none)), [(readable, 0)]);
    }

    #[test]
    fn times_of_units_beyond_the_limit_are_left_out_not_summed() {
        let latest = (0..2 * MOST_UNIT_SERIES as u64)
            .map(|number| (MetricLabels::from([("name", number.to_string())]), number))
            .collect();
        let metric = newest("x", "X.", latest);
        assert_eq!(metric.samples.len(), MOST_UNIT_SERIES);
        assert!(metric.samples.iter().all(|sample| sample.value >= MOST_UNIT_SERIES as u64));
    }
}
