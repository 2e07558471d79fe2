//! The view of `tap`: the answer for each unit, and with `--verbose` the threads whose calls were refused.

use super::answer::Answer;
use super::answer_page;
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
    /// How often each access failed that the sandbox explains. The answers describe them.
    #[serde(skip)]
    pub(crate) accesses: Vec<u64>,
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
    /// Says how many calls were refused and how many accesses failed.
    fn conclude(&self) -> String {
        let refused: Vec<u64> =
            self.refusals.iter().filter(|refusal| !refusal.fallback).map(|refusal| refusal.count).collect();
        describe_totals(&refused, &self.accesses)
            .unwrap_or_else(|| "no filter refused a call, and no sandbox made an access fail".to_owned())
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
        page.paragraph(0, &format!("Watched for {:.1} s by BPF: {}.", self.seconds, self.conclude()));
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
        add_notes(&mut page, &self.notes);
        if !page.is_empty() {
            text.push('\n');
        }
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
    use super::count_accesses;
    use crate::incidents::{Access, AccessDenial, AccessPath, Incident, IncidentEvent};
    use crate::operations::fake_manager::denial;
    use crate::syscalls::{Arch, Call};
    use crate::units::{Manager, Unit};

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
