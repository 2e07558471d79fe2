//! The way by tracefs: every call of the watched threads comes our way, and is paired with its entry here.

use super::bpf::arch;
use super::instance::Instance;
use super::pairing::{Orphan, Pairing, Step};
use super::ring::{Field, Page};
use super::targets::Target;
use super::{Lost, Refusal, TapError};
use crate::audit::text::join;
use crate::kernel::clock::{Clocks, monotonic};
use crate::kernel::procfs::Procfs;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};
use std::{fs, io};

/// The events that are traced.
const EVENTS: [&str; 4] = [
    "events/raw_syscalls/sys_enter",
    "events/raw_syscalls/sys_exit",
    "events/sched/sched_process_fork",
    "events/sched/sched_process_exit",
];

/// How often new processes of a cgroup are looked for.
const AGAIN: Duration = Duration::from_millis(200);

/// How far up the parents of a thread are looked for one that is watched.
const MOST_ANCESTORS: usize = 64;

/// How much of one processor's events is read at a time, in bytes.
const MOST_READ: usize = 16 << 20;

/// Where the fields of the events are.
#[derive(Debug)]
struct Layout {
    kind: Field,
    pid: Field,
    kinds: [i64; 4],
    number: Field,
    returned: Field,
    child: Field,
    page: usize,
}

/// An event.
#[derive(Debug, Clone, Copy)]
struct Event {
    at: u64,
    /// Who ran.
    by: u32,
    /// What it did, or the thread it made.
    tid: u32,
    step: Step,
}

/// A refusal, counted: of which target and process, how often, when first and last.
#[derive(Debug, Clone, Copy)]
struct Count {
    target: usize,
    pid: Option<u32>,
    times: u64,
    first: u64,
    last: u64,
}

/// Events of calls.
#[derive(Debug)]
pub(crate) struct Traced {
    instance: Instance,
    layout: Layout,
    pairing: Pairing,
    targets: Vec<Target>,
    /// The watched threads, with the target and the process of each, where it is known.
    threads: HashMap<u32, (usize, Option<u32>)>,
    /// What was read and is not paired yet: events of later times than those that all processors told.
    pending: Vec<Event>,
    /// The last time that each processor told.
    told: Vec<u64>,
    looked: Option<Instant>,
}

impl Traced {
    /// Makes the instance, and has it trace.
    pub(crate) fn open(targets: &[Target]) -> Result<Self, TapError> {
        if cfg!(not(target_pointer_width = "64")) {
            return Err(TapError::Tracefs("not on a 32-bit machine".to_owned()));
        }
        let begun = Self::begin(targets).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => TapError::NotAllowed,
            _ => TapError::Tracefs(error.to_string()),
        })?;
        begun.ok_or_else(|| TapError::Empty(join(targets.iter().map(ToString::to_string))))
    }

    /// Nothing where nobody is left to be traced.
    fn begin(targets: &[Target]) -> io::Result<Option<Self>> {
        let instance = Instance::make()?;
        let layout = Layout::of(&instance)?;
        let told = vec![0; instance.pipes.len()];
        let mut traced = Self {
            instance,
            layout,
            pairing: Pairing::default(),
            targets: targets.to_vec(),
            threads: HashMap::new(),
            pending: Vec::new(),
            told,
            looked: None,
        };
        // A child that is made between a look and the next is found by the next.
        while traced.follow()? > 0 {}
        // As long as no thread was named, the kernel takes all of the machine's.
        if traced.threads.is_empty() {
            return Ok(None);
        }
        for event in EVENTS {
            traced.instance.set(&format!("{event}/enable"), "1")?;
        }
        traced.instance.set("tracing_on", "1")?;
        traced.looked = None;
        Ok(Some(traced))
    }

    /// Traces the threads of processes that came from elsewhere; how many.
    fn follow(&mut self) -> io::Result<usize> {
        let mut new = Vec::new();
        for (place, target) in self.targets.iter().enumerate() {
            for pid in target.processes() {
                let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
                for tid in tasks.filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok()) {
                    if let Entry::Vacant(vacant) = self.threads.entry(tid) {
                        new.push(tid);
                        vacant.insert((place, Some(pid)));
                    }
                }
            }
        }
        self.instance.trace(&new)?;
        self.looked = Some(Instant::now());
        Ok(new.len())
    }

    /// Stops to trace.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.instance.set("tracing_on", "0")
    }

    /// What was refused since.
    pub(crate) fn look(&mut self, clocks: &Clocks) -> io::Result<Vec<Refusal>> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= AGAIN) {
            self.follow()?;
        }
        // What any processor tells from now on may be older than what another tells of this thread.
        let mut until = monotonic();
        let mut buffer = vec![0; self.layout.page];
        for cpu in 0..self.instance.pipes.len() {
            if let Some(last) = self.read(cpu, &mut buffer)? {
                until = until.min(last);
            }
        }
        self.pending.sort_by_key(|event| event.at);
        let later = self.pending.split_off(self.pending.partition_point(|event| event.at < until));
        let procfs = Procfs::live();
        let mut found: BTreeMap<(u32, Orphan), Count> = BTreeMap::new();
        for Event { at, by, tid, step } in std::mem::replace(&mut self.pending, later) {
            if let Some(orphan) = self.pairing.step(tid, at, step)
                && let Some((target, pid)) = self.whose(tid, &procfs)
            {
                let seen = found.entry((tid, orphan));
                let seen = seen.or_insert(Count { target, pid, times: 0, first: at, last: at });
                (seen.times, seen.last) = (seen.times + 1, at);
            }
            match step {
                Step::Begin => {
                    if let Some((target, _)) = self.whose(by, &procfs) {
                        self.threads.insert(tid, (target, None));
                    }
                }
                Step::End => drop(self.threads.remove(&tid)),
                _ => {}
            }
        }
        self.pairing.until(until);
        Ok(found.into_iter().map(|((tid, orphan), count)| self.refusal(tid, orphan, count, clocks, &procfs)).collect())
    }

    /// The target and, where it is known, the process of a thread.
    fn whose(&mut self, tid: u32, procfs: &Procfs) -> Option<(usize, Option<u32>)> {
        if let Some(known) = self.threads.get(&tid) {
            return Some(*known);
        }
        // How it began may have been lost, or was before the events: its ancestors tell.
        let own = procfs.thread_group(tid)?;
        let line = std::iter::successors(Some(own), |pid| procfs.parent(*pid)).take(MOST_ANCESTORS);
        let (target, _) = line.into_iter().find_map(|pid| self.threads.get(&pid))?;
        let known = (*target, Some(own));
        self.threads.insert(tid, known);
        Some(known)
    }

    /// Reads what a processor has; the last time of it where that is not all.
    fn read(&mut self, cpu: usize, buffer: &mut [u8]) -> io::Result<Option<u64>> {
        let mut read = 0;
        while read < MOST_READ {
            let Some(pipe) = self.instance.pipes.get_mut(cpu) else { return Ok(None) };
            let length = match pipe.read(buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            read += length;
            let Some(page) = buffer.get(..length).and_then(Page::parse) else { continue };
            let Some(told) = self.told.get_mut(cpu) else { continue };
            if page.missed {
                self.pairing.lost(*told, page.began);
            }
            for event in page {
                *told = event.at;
                if let Some((by, tid, step)) = self.layout.read(event.fields) {
                    self.pending.push(Event { at: event.at, by, tid, step });
                }
            }
        }
        Ok(self.told.get(cpu).copied())
    }

    fn refusal(
        &mut self,
        tid: u32,
        orphan: Orphan,
        Count { target, pid, times, first, last }: Count,
        clocks: &Clocks,
        procfs: &Procfs,
    ) -> Refusal {
        let pid = pid.or_else(|| procfs.thread_group(tid)).unwrap_or(tid);
        if let Some((_, known)) = self.threads.get_mut(&tid) {
            *known = Some(pid);
        }
        Refusal {
            target,
            pid,
            tid,
            arch: arch(is_32_bit(pid)),
            number: orphan.number,
            end: orphan.end,
            uncertain: orphan.uncertain,
            count: times,
            first: clocks.millis_of_monotonic(first),
            last: clocks.millis_of_monotonic(last),
            comm: procfs.comm(tid).unwrap_or_default(),
            uid: procfs.uid(pid),
            ip: 0,
        }
    }

    /// Whether all processes are gone, where no cgroup is watched.
    pub(crate) fn is_over(&self) -> bool {
        let cgroups = self.targets.iter().any(|target| matches!(target, Target::Cgroup(_)));
        !cgroups && self.instance.get("set_event_pid").is_ok_and(|pids| pids.trim().is_empty())
    }

    /// What was overwritten.
    pub(crate) fn lost(&self) -> Lost {
        Lost { events: self.instance.overrun(), ..Lost::default() }
    }
}

impl Layout {
    fn of(instance: &Instance) -> io::Result<Self> {
        let odd = |what: &str| io::Error::other(format!("its {what} is not understood"));
        let mut kinds = [0; 4];
        let mut formats = Vec::new();
        for (kind, event) in kinds.iter_mut().zip(EVENTS) {
            *kind = instance.get(&format!("{event}/id"))?.trim().parse().map_err(|_| odd(event))?;
            formats.push(instance.get(&format!("{event}/format"))?);
        }
        let [enter, exit, fork, _] = &formats[..] else { return Err(odd("events")) };
        let field = |format: &str, name: &str| Field::find(format, name).ok_or_else(|| odd(name));
        let head = instance.get("events/header_page")?;
        // The head is of a fixed size on a 64-bit machine, which ring.rs takes for granted.
        let data = field(&head, "data")?;
        if field(&head, "commit")?.end() != 16 || data.end() <= 16 {
            return Err(odd("page"));
        }
        Ok(Self {
            kind: field(enter, "common_type")?,
            pid: field(enter, "common_pid")?,
            kinds,
            number: field(exit, "id")?,
            returned: field(exit, "ret")?,
            child: field(fork, "child_pid")?,
            page: data.end(),
        })
    }

    /// Who ran, of which thread an event is, and what it says.
    fn read(&self, fields: &[u8]) -> Option<(u32, u32, Step)> {
        let kind = self.kind.number(fields)?;
        let by: u32 = self.pid.number(fields)?.try_into().ok()?;
        let (tid, step) = match self.kinds.iter().position(|known| *known == kind)? {
            0 => (by, Step::Enter),
            1 => {
                // The kernel's own type is an int, whose sign is shown in a long.
                #[expect(clippy::cast_possible_truncation, reason = "the lower half is the number")]
                let number = (self.number.number(fields)? as i32).cast_unsigned();
                (by, Step::Exit(number, self.returned.number(fields)?))
            }
            2 => (self.child.number(fields)?.try_into().ok()?, Step::Begin),
            _ => (by, Step::End),
        };
        Some((by, tid, step))
    }
}

/// Whether a process executes a 32-bit program: its calls have other numbers.
fn is_32_bit(pid: u32) -> bool {
    let mut head = [0; 5];
    let read = File::open(format!("/proc/{pid}/exe")).and_then(|mut exe| exe.read_exact(&mut head));
    // EI_CLASS, ELFCLASS32.
    read.is_ok() && head == *b"\x7fELF\x01"
}
