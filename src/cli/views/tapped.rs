//! The view of `tap`: the answer for each unit, and with `--verbose` the threads whose calls were refused.

use super::answer::Answer;
use super::answer_page;
use super::folded::{FoldedDenial, Folding, fold};
use crate::audit::Note;
use crate::audit::text::{escape, join, plural};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, BOLD, Page, add_notes, styled};
use crate::cli::terminal::words::count_times;
use crate::incidents::{Incident, IncidentKey, name_access};
use crate::kernel::tap::CallResult;
use crate::operations::tap::refusals::UnitRefusal;
use crate::policy::Effect;
use crate::syscalls::Call;
use serde::Serialize;

/// The most threads per call that the page names.
const NAMED: usize = 6;

/// The result of a tap.
#[derive(Debug, Serialize)]
pub(crate) struct Tapped {
    pub(crate) schema: u32,
    /// Its duration in seconds.
    pub(crate) seconds: f64,
    /// The answer of `harden-why UNIT` for the refusals of this tap alone.
    pub(crate) units: Vec<Answer>,
    /// The refusals by call, with the threads.
    pub(crate) refusals: Vec<RefusalView>,
    pub(crate) notes: Vec<Note>,
}

/// A refused call.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalView {
    /// The unit; null for a process without one.
    pub(crate) unit: Option<String>,
    /// Its manager: `system`, or `user:UID`.
    manager: Option<String>,
    /// The call's name, or its number in words.
    pub(crate) call: String,
    /// Its number.
    number: u32,
    /// The ABI.
    arch: String,
    /// What the call asked for by the argument for which a filter refused it; null if the argument did not decide.
    argument: Option<String>,
    /// The error that the program got; null if none.
    pub(crate) errno: Option<String>,
    /// Whether the unit's filter killed the program for it.
    killed: bool,
    /// Whether most programs then make an older call, so that the refusal is no denial.
    fallback: bool,
    /// The executable's path, escaped; null if the process ended before harden-why read it.
    exe: Option<String>,
    /// The number of refusals.
    pub(crate) count: u64,
    /// The threads that made the call.
    pub(crate) threads: Vec<ThreadView>,
    /// Refusals of threads that the list leaves out.
    others: u64,
}

/// A thread.
#[derive(Debug, Serialize)]
pub(crate) struct ThreadView {
    /// Its process id.
    pid: u32,
    /// Its thread id.
    tid: u32,
    /// Its name, escaped.
    comm: String,
    /// Its number of refusals.
    count: u64,
}

impl RefusalView {
    pub(crate) fn new(refusal: &UnitRefusal, fallback: bool) -> Self {
        let UnitRefusal { unit, kind, totals: group, denied, killed, .. } = refusal;
        let call = Call::numbered(kind.arch, kind.number);
        Self {
            unit: unit.as_ref().map(|unit| unit.name.to_string()),
            manager: unit.as_ref().map(|unit| unit.manager.to_string()),
            arch: call.abi().map_or_else(|| call.arch.to_string(), |abi| abi.name().to_owned()),
            call: call.to_string(),
            argument: denied.as_ref().map(|denied| name_access(&denied.access)),
            number: kind.number,
            errno: if let CallResult::Errno(errno) = kind.result {
                Some(Effect::Errno(errno).to_string())
            } else {
                None
            },
            killed: killed.is_some(),
            fallback,
            exe: (!kind.exe.is_empty()).then(|| escape(&kind.exe)),
            count: group.count,
            threads: group
                .threads
                .iter()
                .map(|caller| ThreadView {
                    pid: caller.pid,
                    tid: caller.tid,
                    comm: escape(&caller.comm),
                    count: caller.count,
                })
                .collect(),
            others: group.others,
        }
    }
}

/// Returns what the program got, in words.
pub(crate) fn errno_words(refusal: &RefusalView) -> &str {
    refusal.errno.as_deref().unwrap_or(if refusal.killed { "killed" } else { "answered" })
}

impl Tapped {
    /// Says what was denied to which unit, and by which line; or that nothing was.
    fn describe_finding(&self) -> String {
        let denials: Vec<(&Answer, FoldedDenial<'_>)> = self
            .units
            .iter()
            .flat_map(|answer| fold(&answer.denials, Folding::ByCall).into_iter().map(move |denial| (answer, denial)))
            .collect();
        let has_line = |(_, denial): &&(&Answer, FoldedDenial<'_>)| !denial.view.cause.directives.is_empty();
        let Some((answer, denial)) = denials.iter().find(has_line).or(denials.first()) else {
            return self.describe_nothing();
        };
        let view = denial.view;
        let unit = styled(BOLD, answer.unit.as_deref().unwrap_or("a process of an unknown unit"));
        let call = view.call.as_ref().map_or_else(String::new, |call| format!("{} ", styled(BAD, call)));
        let by = match view.cause.directives.first() {
            Some(directive) => format!(", by {}= ({})", directive.directive, directive.place()),
            None => String::new(),
        };
        let more = match denials.len() - 1 {
            0 => String::new(),
            more => format!("; {} more", plural(more as u64, "denial")),
        };
        format!("{unit}: {call}{}{by}{more}", view.brief)
    }

    /// Says that nothing was denied. The notes tell what answered other calls.
    fn describe_nothing(&self) -> String {
        let refused: Vec<u64> =
            self.refusals.iter().filter(|refusal| !refusal.fallback).map(|refusal| refusal.count).collect();
        let units: Vec<String> = self.units.iter().filter_map(|answer| answer.unit.clone()).collect();
        let whom = if units.is_empty() { String::new() } else { format!(" to {}", join(units.into_iter())) };
        let why = describe_totals(&refused, &[]).map_or_else(
            || "no filter refused a call, and no sandbox made an access fail".to_owned(),
            |refused| format!("no unit's settings explain the refused calls ({refused})"),
        );
        format!("Nothing was denied{whom}: {why}.")
    }
}

/// Counts how often each access failed, whichever programs asked for it.
pub(crate) fn count_accesses<'a>(accesses: impl IntoIterator<Item = &'a Incident>) -> Vec<u64> {
    let mut counts: Vec<(&IncidentKey, u64)> = Vec::new();
    for Incident { key, count, .. } in accesses {
        match counts.iter_mut().find(|(other, _)| (&other.unit, &other.event) == (&key.unit, &key.event)) {
            Some((_, sum)) => *sum = sum.saturating_add(*count),
            None => counts.push((key, *count)),
        }
    }
    counts.into_iter().map(|(_, count)| count).collect()
}

/// Returns the numbers of refused calls and failed accesses, and how often each kind was seen; `None` without any.
pub(super) fn describe_totals(refused: &[u64], failed: &[u64]) -> Option<String> {
    let times = |counts: &[u64]| count_times(counts.iter().copied().fold(0, u64::saturating_add));
    let calls = || format!("{} refused, {}", plural(refused.len() as u64, "call"), times(refused));
    let accesses = || match failed {
        [_] => format!("1 access failed, {}", times(failed)),
        kinds => format!("{} accesses failed, {}", kinds.len(), times(failed)),
    };
    match (refused, failed) {
        ([], []) => None,
        (_, []) => Some(calls()),
        ([], _) => Some(accesses()),
        _ => Some(format!("{}; {}", calls(), accesses())),
    }
}

impl Reply for Tapped {
    fn page(&self, detail: Detail) -> String {
        let mut page = Page::default();
        page.hanging((0, 2), &self.describe_finding());
        let mut text = page.finish();
        for answer in &self.units {
            text.push('\n');
            text += &answer_page::render_unit_answer(answer, detail);
        }
        let mut page = Page::default();
        // The answer of a unit names the programs; a process without a unit is known by its threads alone.
        let named = self.refusals.iter().filter(|refusal| detail == Detail::Full || refusal.unit.is_none());
        for (at, refusal) in named.enumerate() {
            if at == 0 {
                page.gap();
                page.line(styled(BOLD, "Threads"));
            }
            let argument = refusal.argument.as_ref().map_or_else(String::new, |argument| format!(" ({argument})"));
            let call = format!("{}{argument}", styled(BAD, &refusal.call));
            let label = format!("  {call}  {}, {}: ", errno_words(refusal), count_times(refusal.count));
            page.paragraph(2, format!("{label}{}", join_threads(refusal)).trim_start());
        }
        page.gap();
        page.paragraph(0, &format!("Watched for {:.1} s by BPF.", self.seconds));
        add_notes(&mut page, &self.notes);
        text.push('\n');
        text + &page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        let is_clean = self.refusals.iter().all(|refusal| refusal.fallback)
            && self.units.iter().all(|answer| answer.denials.is_empty());
        if is_clean { ExitStatus::Done } else { ExitStatus::Found }
    }
}

fn join_threads(refusal: &RefusalView) -> String {
    let named = refusal.threads.iter().take(NAMED);
    let mut words: Vec<String> = named
        .map(|thread| {
            let ThreadView { pid, tid, comm, count } = thread;
            let process = if pid == tid { String::new() } else { format!(" of {pid}") };
            format!("{comm} {tid}{process} ({count})")
        })
        .collect();
    let more = refusal.threads.len().saturating_sub(NAMED);
    if more > 0 || refusal.others > 0 {
        words.push(if refusal.others > 0 { "many more".to_owned() } else { format!("{more} more") });
    }
    join(words.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::cli::terminal::output::SCHEMA;
    use crate::diagnosis::{Situation, diagnose};
    use crate::incidents::local_time::LocalTime;
    use crate::incidents::{Access, AccessDenial, AccessPath, Denial, IncidentEvent};
    use crate::operations::fake_manager::denial;
    use crate::operations::fake_manager::{GROUPS, UNIT_FILE};
    use crate::policy::{Policy, Settings, UnitFile};
    use crate::syscalls::Arch;
    use crate::units::{Manager, Unit};
    use jiff::tz::TimeZone;
    use std::path::Path;

    /// Returns the answer of a tap of `x.service` that saw these incidents.
    fn tapped(incidents: Vec<Incident>) -> Tapped {
        let unit = Unit { name: "x.service".parse().unwrap(), manager: Manager::System };
        let path = Path::new("/etc/systemd/system/x.service");
        let file = UnitFile::parse(path, UNIT_FILE.as_bytes());
        let policy = Policy::new(Settings::new(&unit.name, Some(file), Vec::new()), &GROUPS);
        let drop_in = "/etc/systemd/system/x.service.d/zz-harden-why.conf".into();
        let situation = Situation { policy, drop_in, history: None, programs: Vec::new() };
        let diagnosis = diagnose(incidents, Some(&situation), &GROUPS);
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        let answer = Answer::new(Some(&unit), &diagnosis, Some(&situation), &GROUPS, &clock, Vec::new());
        Tapped { schema: SCHEMA, seconds: 1.0, units: vec![answer], refusals: Vec::new(), notes: Vec::new() }
    }

    fn page(tapped: &Tapped) -> String {
        anstream::adapter::strip_str(&tapped.page(Detail::Short)).to_string()
    }

    #[test]
    fn answer_of_a_tap_begins_with_the_finding() {
        let unit = Unit { name: "x.service".parse().unwrap(), manager: Manager::System };
        let found = page(&tapped(vec![denial(&unit)]));
        let (finding, rest) = found.split_once("\n\n").unwrap();
        let expected =
            "x.service: uname denied, failed with EPERM, by SystemCallFilter=\n  (/etc/systemd/system/x.service:3)";
        assert_eq!(finding, expected, "{found}");
        assert!(rest.contains("SystemCallFilter=uname") && rest.ends_with("\nWatched for 1.0 s by BPF.\n"), "{found}");
        let nothing = page(&tapped(Vec::new()));
        let expected =
            "Nothing was denied to x.service: no filter refused a call, and no sandbox made\n  an access fail.\n\n";
        assert!(nothing.starts_with(expected), "{nothing}");
    }

    #[test]
    fn answer_of_a_tap_names_a_denial_with_a_line_first_and_counts_the_others() {
        let unit = Unit { name: "x.service".parse().unwrap(), manager: Manager::System };
        let mut other = denial(&unit);
        let call = Call::named(Arch::native(), "getpid");
        other.key.event = IncidentEvent::Denial(Denial { call, action: Action::Errno });
        let found = page(&tapped(vec![other, denial(&unit)]));
        assert!(found.starts_with("x.service: uname denied, failed with EPERM, by SystemCallFilter="), "{found}");
        assert!(found.contains("x.service:3); 1 denial more"), "{found}");
    }

    #[test]
    fn access_that_failed_in_two_programs_counts_once() {
        let unit = Unit { name: "x.service".parse().unwrap(), manager: Manager::System };
        let failed = |path: &str, exe: &str, count: u64| {
            let access = Access::ReadOnlyPath(AccessPath::new(path.as_bytes()));
            let call = Call::named(Arch::X86_64, "openat");
            let mut incident: Incident = denial(&unit);
            incident.key.event = IncidentEvent::Access(AccessDenial { call, errno: libc::EROFS, access });
            incident.key.exe = exe.into();
            incident.count = count;
            incident
        };
        let accesses = [failed("/x", "/bin/a", 2), failed("/y", "/bin/a", 1), failed("/x", "", 3)];
        assert_eq!(count_accesses(&accesses), [5, 1]);
    }
}
