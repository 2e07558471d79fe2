//! Metrics as text: OpenMetrics, and the older format of Prometheus, which node_exporter reads from files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The label of the one series that stands for those that are too many.
pub(crate) const OTHERS: &str = "(others)";

/// The format of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsFormat {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Prometheus,
}

/// A metric with its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metric {
    /// The name of its samples; that of a counter ends with `_total`.
    pub(crate) name: &'static str,
    pub(crate) kind: MetricKind,
    pub(crate) help: &'static str,
    pub(crate) samples: Vec<MetricSample>,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricKind {
    /// A number that grows, or begins again.
    Counter,
    /// A number that can fall.
    Gauge,
}

impl MetricKind {
    /// Returns the word of both formats.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetricSample {
    pub(crate) labels: MetricLabels,
    pub(crate) value: u64,
}

/// The labels of a sample.
pub(crate) type MetricLabels = BTreeMap<&'static str, String>;

impl Metric {
    /// A metric of one value without labels.
    pub(crate) fn single(name: &'static str, kind: MetricKind, help: &'static str, value: u64) -> Self {
        Self { name, kind, help, samples: vec![MetricSample { labels: MetricLabels::new(), value }] }
    }

    /// A gauge of at most `most` series. The others share one, whose labels are all [`OTHERS`].
    pub(crate) fn bounded_gauge(
        name: &'static str,
        help: &'static str,
        series: BTreeMap<MetricLabels, u64>,
        most: usize,
    ) -> Self {
        let names: Vec<&'static str> = series.keys().next().into_iter().flat_map(MetricLabels::keys).copied().collect();
        let kept = if series.len() > most { most.saturating_sub(1) } else { most };
        let (mut samples, rest) = split_greatest(series, kept);
        if let Some(value) = rest {
            let labels = names.into_iter().map(|name| (name, OTHERS.to_owned())).collect();
            samples.push(MetricSample { labels, value });
        }
        Self { name, kind: MetricKind::Gauge, help, samples }
    }

    /// A counter of at most `most` series, and the sum of the others. That sum is no counter: it falls if one of them grows out
    /// of it.
    pub(crate) fn bounded_counter(
        name: &'static str,
        help: &'static str,
        series: BTreeMap<MetricLabels, u64>,
        most: usize,
    ) -> (Self, u64) {
        let (samples, rest) = split_greatest(series, most);
        (Self { name, kind: MetricKind::Counter, help, samples }, rest.unwrap_or_default())
    }
}

/// Returns at most `most` series, and the sum of the others if there are any. Owners share the room, and of each those with the
/// greatest values stay.
pub(crate) fn split_greatest(series: BTreeMap<MetricLabels, u64>, most: usize) -> (Vec<MetricSample>, Option<u64>) {
    let mut samples: Vec<MetricSample> =
        series.into_iter().map(|(labels, value)| MetricSample { labels, value }).collect();
    if samples.len() <= most {
        return (samples, None);
    }
    samples.sort_by_key(|sample| std::cmp::Reverse(sample.value));
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    // First the greatest of each owner, then the second of each, until the room is full.
    samples.sort_by_cached_key(|sample| {
        let held = held.entry(find_owner(&sample.labels).to_owned()).or_default();
        *held += 1;
        *held
    });
    let rest = samples.split_off(most);
    (samples, Some(rest.iter().map(|sample| sample.value).fold(0, u64::saturating_add)))
}

/// Returns whose share of the series a sample takes: that of its system unit, or that of the user for all of theirs.
fn find_owner(labels: &MetricLabels) -> &str {
    let label = |name| labels.get(name).map_or("", String::as_str);
    match label("manager") {
        "" | "system" => label("name"),
        user => user,
    }
}

/// Lays metrics out as text.
pub(crate) fn render(metrics: &[Metric], format: MetricsFormat) -> String {
    let mut text = String::new();
    for metric in metrics.iter().filter(|metric| !metric.samples.is_empty()) {
        let Metric { name, kind, help, samples } = metric;
        // OpenMetrics names the family of a counter without its suffix.
        let family = match format {
            MetricsFormat::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            MetricsFormat::Prometheus => name,
        };
        let kind = kind.as_str();
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} {kind}");
        for MetricSample { labels, value } in samples {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape_label(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    if format == MetricsFormat::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Escapes a label's value as both formats do.
fn escape_label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(count: u64) -> BTreeMap<MetricLabels, u64> {
        (1..=count).map(|number| (MetricLabels::from([("name", format!("u{number:03}.service"))]), number)).collect()
    }

    #[test]
    fn counter_is_named_as_each_format_wants_it() {
        let labels = MetricLabels::from([("name", "a\\x2db.service".to_owned()), ("what", "\"\n".to_owned())]);
        let samples = vec![MetricSample { labels, value: 3 }];
        let counter = Metric { name: "harden_why_denials_total", kind: MetricKind::Counter, help: "Denials.", samples };
        let sample = "harden_why_denials_total{name=\"a\\\\x2db.service\",what=\"\\\"\\n\"} 3\n";
        assert_eq!(
            render(std::slice::from_ref(&counter), MetricsFormat::OpenMetrics),
            format!("# HELP harden_why_denials Denials.\n# TYPE harden_why_denials counter\n{sample}# EOF\n")
        );
        assert_eq!(
            render(&[counter], MetricsFormat::Prometheus),
            format!("# HELP harden_why_denials_total Denials.\n# TYPE harden_why_denials_total counter\n{sample}")
        );
    }

    #[test]
    fn series_beyond_the_limit_share_one() {
        let all = Metric::bounded_gauge("x", "X.", series(5), 5);
        assert_eq!(all.samples.len(), 5);
        let few = Metric::bounded_gauge("x", "X.", series(100), 5);
        let values: Vec<u64> = few.samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values, [100, 99, 98, 97, (1..=96).sum()]);
        assert_eq!(few.samples[4].labels["name"], OTHERS);
    }

    #[test]
    fn noise_of_one_owner_leaves_the_series_of_others() {
        let labels = |name: &str, manager: &str, what: u64| {
            MetricLabels::from([("name", name.to_owned()), ("manager", manager.to_owned()), ("what", what.to_string())])
        };
        let mut series: BTreeMap<_, _> = (0..2_000).map(|what| (labels("noisy.service", "system", what), 9)).collect();
        series.extend((0..500).map(|number| (labels(&format!("u{number}.service"), "user:1000", 1), 8)));
        series.insert(labels("quiet.service", "system", 1), 1);
        let (kept, rest) = split_greatest(series, 100);
        let count = |name: &str| kept.iter().filter(|sample| sample.labels["name"].starts_with(name)).count();
        assert_eq!((count("quiet"), count("noisy"), count("u")), (1, 50, 49));
        assert_eq!(rest, Some(1_950 * 9 + 451 * 8));
    }

    #[test]
    fn counter_has_no_series_that_can_fall() {
        let (few, rest) = Metric::bounded_counter("x_total", "X.", series(100), 5);
        let values: Vec<u64> = few.samples.iter().map(|sample| sample.value).collect();
        assert_eq!((values, rest), (vec![100, 99, 98, 97, 96], (1..=95).sum()));
        assert_eq!(Metric::bounded_counter("x_total", "X.", series(5), 5).1, 0);
    }

    #[test]
    fn metric_without_samples_is_left_out() {
        let none = Metric::bounded_gauge("x", "X.", series(0), 5);
        assert_eq!(render(&[none], MetricsFormat::Prometheus), "");
    }
}
