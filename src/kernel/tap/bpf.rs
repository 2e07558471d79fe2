//! The way by BPF: refusals are counted in the kernel, thread by thread.

use super::program::{
    COMPAT, FIRST, Key, LIVE, Maps, NO_ERROR, Offsets, REFUSALS_LOST, SHARED, TARGET, THREADS_LOST, Value, ended,
    entered, forked, left,
};
use super::targets::Target;
use super::{End, Lost, Refusal, TapError, targets};
use crate::kernel::bpf;
use crate::kernel::bpf::{Array, BpfError, Btf, CgroupArray, Map};
use crate::kernel::clock::Clocks;
use crate::syscalls::{Abi, Arch};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

/// How many threads are followed at a time, in a megabyte and a half of the kernel's memory.
const THREADS: u32 = 16 << 10;
/// How many different refusals of threads that live are counted, in two megabytes.
const REFUSALS: u32 = 16 << 10;
/// How many processes that were asked for, and their children.
const PROCESSES: u32 = 8 << 10;

/// What others see the programs called.
const PROGRAM: &[u8; 16] = b"harden_why_tap\0\0";

/// Counts in the kernel.
#[derive(Debug)]
pub(crate) struct Counted {
    shared: Array,
    refusals: Map<Key, Value>,
    cgroups: CgroupArray,
    /// The watched cgroups: place, directory, and which one of that name is in the map.
    watched: Vec<(u32, PathBuf, u64)>,
    programs: Vec<OwnedFd>,
    /// What was told before of threads that may still count.
    told: HashMap<Key, u64>,
    /// Threads, and processes where any were asked for: the programs' own.
    maps: (Map<u32, u64>, Option<Map<u32, u64>>),
}

impl Counted {
    /// Loads the programs, and has them count.
    pub(crate) fn open(targets: &[Target]) -> Result<Self, TapError> {
        if cfg!(not(target_pointer_width = "64")) {
            return Err(TapError::Bpf("not on a 32-bit machine".to_owned()));
        }
        let types = std::fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
        let at = Btf::parse(&types).as_ref().and_then(Offsets::of);
        let at = at.ok_or_else(|| TapError::Bpf("the layout of its structures is not known".to_owned()))?;
        Self::load(targets, at).map_err(|error| {
            if error.is_missing_right() { TapError::NotAllowed } else { TapError::Bpf(error.to_string()) }
        })
    }

    fn load(targets: &[Target], at: Offsets) -> Result<Self, BpfError> {
        let shared = Array::places(SHARED)?;
        let threads = Map::bounded(THREADS)?;
        let refusals = Map::bounded(REFUSALS)?;
        let places = u32::try_from(targets.len().max(1)).map_err(io::Error::other)?;
        let cgroups = CgroupArray::places(places)?;
        let mut watched = Vec::new();
        let mut processes: Option<Map<u32, u64>> = None;
        for (place, target) in (0..).zip(targets) {
            match target {
                Target::Cgroup(directory) => {
                    let (file, id) = targets::opened(directory)?;
                    cgroups.put(place, file.as_fd())?;
                    watched.push((place, directory.clone(), id));
                }
                Target::Process(pid) => {
                    let map = match processes.take() {
                        Some(map) => map,
                        None => Map::bounded(PROCESSES)?,
                    };
                    map.put(*pid, place.into())?;
                    processes = Some(map);
                }
            }
        }
        let maps = Maps {
            shared: shared.number(),
            threads: threads.number(),
            refusals: refusals.number(),
            // A place that is empty is nobody's.
            cgroups: (cgroups.number(), if watched.is_empty() { 0 } else { places }),
            processes: processes.as_ref().map(Map::number),
        };
        let attach = |program: Option<Vec<_>>, tracepoint| {
            bpf::attach(PROGRAM, &program.ok_or(io::ErrorKind::Unsupported)?, tracepoint)
        };
        let programs = vec![
            attach(ended(maps, at), c"sched_process_exit")?,
            attach(forked(maps, at), c"sched_process_fork")?,
            attach(entered(maps), c"sys_enter")?,
            attach(left(maps, at), c"sys_exit")?,
        ];
        // All at once: were one of them first, a call in between would be half seen.
        shared.put(LIVE, 1)?;
        Ok(Self { shared, refusals, cgroups, watched, programs, told: HashMap::new(), maps: (threads, processes) })
    }

    /// Watches a cgroup that came in the place of one of its name: the unit was started anew.
    pub(crate) fn follow(&mut self) {
        for (place, directory, known) in &mut self.watched {
            if let Ok((file, id)) = targets::opened(directory)
                && id != *known
                && self.cgroups.put(*place, file.as_fd()).is_ok()
            {
                *known = id;
            }
        }
    }

    /// Ends the counting.
    pub(crate) fn stop(&mut self) {
        // What fails here ends with the programs.
        _ = self.shared.put(LIVE, 0);
        self.programs.clear();
    }

    /// What was counted since.
    pub(crate) fn look(&mut self, clocks: &Clocks) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for key in self.refusals.keys() {
            let [tid, pid, ..] = key;
            // Asked first: a thread that is gone then counts no more.
            let gone = !targets::task_exists(pid, tid);
            let Some(value) = self.refusals.get(key) else { continue };
            let [count, ..] = value;
            let before = self.told.get(&key).copied().unwrap_or_default();
            if count > before {
                refusals.push(refusal(key, value, count - before, clocks));
            }
            if gone {
                self.refusals.remove(key);
                self.told.remove(&key);
            } else {
                self.told.insert(key, count);
            }
        }
        refusals
    }

    /// Whether all processes are gone, where no cgroup is watched.
    pub(crate) fn is_over(&self) -> bool {
        let (_, processes) = &self.maps;
        self.watched.is_empty() && processes.as_ref().is_none_or(Map::is_empty)
    }

    /// What there was no room for.
    pub(crate) fn lost(&self) -> Lost {
        let told = |place| self.shared.get(place).unwrap_or_default();
        Lost { refusals: told(REFUSALS_LOST), threads: told(THREADS_LOST), events: 0 }
    }
}

fn refusal(key: Key, value: Value, count: u64, clocks: &Clocks) -> Refusal {
    let [tid, pid, number, whose, returned] = key;
    let [_, first, last, ip, uid, comm @ ..] = value;
    let comm = comm.map(u64::to_ne_bytes).concat();
    let length = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    Refusal {
        target: (whose & TARGET) as usize,
        pid,
        tid,
        arch: arch(whose & COMPAT != 0),
        number,
        end: if returned == NO_ERROR {
            End::Answered
        } else {
            End::Errno(returned.cast_signed().checked_neg().unwrap_or_default())
        },
        uncertain: whose & FIRST != 0,
        count,
        first: clocks.millis_of_monotonic(first),
        last: clocks.millis_of_monotonic(last),
        comm: comm.get(..length).unwrap_or_default().to_vec(),
        uid: u32::try_from(uid).ok(),
        ip,
    }
}

/// The architecture of a call, native or of the machine's 32-bit ABI.
pub(crate) fn arch(compat: bool) -> Arch {
    let narrow = match Abi::native() {
        Abi::X86_64 => Abi::I386,
        Abi::Aarch64 => Abi::Arm,
        native => native,
    };
    if compat { narrow.arch() } else { Arch::native() }
}
