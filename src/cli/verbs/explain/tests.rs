//! The cause in an alert agrees with the cause in JSON, for every denial of every golden case.

use super::*;
use crate::cli::views::answer::CauseView;
use crate::diagnosis::{Finding, diagnose_one};
use crate::outlet::{Explanation, alert};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

/// The fields about the cause in an alert of a finding, as the daemon sends it when all is certain.
fn alert_fields(finding: &Finding, situation: Option<&Situation>, groups: &Groups) -> BTreeMap<String, Vec<String>> {
    let remedy = situation.and_then(|situation| diagnose_one(finding.incident.clone(), situation, groups).1);
    let why = Explanation::from_finding(finding, remedy.as_ref(), |_| true, true);
    let entry = alert::entry(&finding.incident, None, Some(&why));
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in entry.fields() {
        let value = str::from_utf8(value).unwrap().to_owned();
        fields.entry(name.trim_start_matches("HARDEN_WHY_").to_owned()).or_default().push(value);
    }
    fields
}

/// Compares the alert with JSON. Returns whether both name a directive.
fn compare(finding: &Finding, situation: Option<&Situation>, groups: &Groups, case: &str) -> bool {
    let json = serde_json::to_value(CauseView::new(finding, &local_time_of_log())).unwrap();
    let (kind, directives) = (json["kind"].as_str().unwrap(), json["directives"].as_array().unwrap());
    let fields = alert_fields(finding, situation, groups);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let is_decided = matches!(kind, "unit" | "possibly-unit") || (kind == "logged" && !directives.is_empty());
    if !is_decided {
        let words: &[&str] = match kind {
            "settings-changed" | "before-change" | "fixed" | "fixed-after-reload" | "fixed-next-start" => {
                &["settings-changed"]
            }
            "settings-unread" => &["settings-unread"],
            "unknown-call" => &["unknown-call"],
            "unrecorded-death" => &["unrecorded-death"],
            "elsewhere" | "runtime" | "logged" => &["elsewhere", "foreign-action", "unit-type"],
            other => panic!("{case}: {other}"),
        };
        assert!(words.contains(&field("NO_DIRECTIVE")[0].as_str()), "{case}: {json} {fields:?}");
        assert!(field("DIRECTIVE").is_empty() && field("CAUSE").is_empty(), "{case}: {json} {fields:?}");
        return false;
    }
    assert_eq!(field("CAUSE"), [kind], "{case}: {json}");
    // The alert names each directive once; JSON has an object for each line.
    let mut distinct: Vec<&serde_json::Value> = Vec::new();
    for directive in directives {
        if !distinct.iter().any(|other| other["directive"] == directive["directive"]) {
            distinct.push(directive);
        }
    }
    let names: Vec<&str> = distinct.iter().map(|one| one["directive"].as_str().unwrap()).collect();
    assert_eq!(field("DIRECTIVE"), names, "{case}: {json}");
    let place = |one: &&serde_json::Value| Some(format!("{}:{}", one["file"].as_str()?, one["line"].as_u64()?));
    let places: Vec<String> = distinct.iter().filter_map(place).collect();
    // A line with a call that libseccomp does not know is no certain place.
    let origins = field("ORIGIN");
    assert!(origins.iter().all(|origin| places.contains(origin)), "{case}: {json} {fields:?}");
    let is_unknown = |one: &&serde_json::Value| one["why"].as_str().unwrap().contains("libseccomp");
    assert!(origins.len() == places.len() || distinct.iter().any(is_unknown), "{case}: {json} {fields:?}");
    true
}

#[test]
fn alert_names_the_directives_of_json_for_every_denial_of_every_case() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.join("log").exists());
    let (mut compared, mut named) = (0, 0);
    for case in cases {
        let shown = case.display().to_string();
        let options = std::fs::read_to_string(case.join("args")).unwrap_or_default();
        let assumed = options.lines().skip_while(|line| *line != "--assume-unit").nth(1);
        let root = Some(case.join("root")).filter(|root| root.exists());
        let assumed = assumed.map(|unit| unit.parse().unwrap());
        let question = LogQuestion { root, assumed, file: case.join("log"), ..LogQuestion::default() };
        let read = read_incidents(&mut File::open(case.join("log")).unwrap(), &question).unwrap();
        let root = read.root(&question);
        let (groups, _) = load_groups(Some(&data.join("systemd-252.syscalls"))).unwrap();
        let machine = LogMachine::new(groups, root.as_deref(), read.summary.facts.clone());
        for (unit, incidents) in by_unit(read.incidents) {
            let known = unit.as_ref().zip(root.as_deref());
            let loaded = known.map(|(unit, root)| load_situation(unit, &incidents, root, &machine));
            let (situation, groups) = match loaded {
                Some((loaded, groups)) => (loaded.situation, groups),
                None => (None, machine.groups().clone()),
            };
            for finding in diagnose(incidents, situation.as_ref(), &groups).findings {
                // strace and other logs have causes of their own, and no alerts.
                if finding.incident.key.source != crate::incidents::SightingSource::Audit {
                    continue;
                }
                compared += 1;
                named += usize::from(compare(&finding, situation.as_ref(), &groups, &shown));
            }
        }
    }
    assert!(compared > 30 && named > 20, "{compared} compared, {named} with a directive");
}
