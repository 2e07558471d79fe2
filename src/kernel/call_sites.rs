//! Where in its code a process made the call that a filter killed it for. BPF programs note it when the kernel raises SIGSYS
//! in the process, since the process is mostly gone before its record is read. A map keeps the latest
//! [notes](super::call_notes).
//!
//! Requires what the [exit notes](super::exit_cgroups) require, Linux 5.17 (`bpf_find_vma`), and registers that the programs
//! know. They find callers on x86-64 alone.

use super::bpf::{BpfError, BpfLink, BpfLoader};
use super::call_notes::{CallNote, NoteWords, page_shift};
use super::clock::Clocks;
use aya::include_bytes_aligned;
use aya::maps::{HashMap, MapData};
use std::sync::OnceLock;

pub use super::call_notes::NotedCallSite;

/// The programs, from `src/kernel/bpf/call_sites.bpf.c`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/call_sites.bpf.o"));

/// How far a note's time can be from its record's, in milliseconds: the record's clock is behind by a tick, and a busy
/// machine can suspend the process between the two.
const MOST_APART_MS: i64 = 2_000;

/// The notes, and the programs that write them. Dropping this ends the programs.
#[derive(Debug)]
pub struct CallSites {
    notes: HashMap<MapData, u32, NoteWords>,
    _programs: Vec<BpfLink>,
}

impl CallSites {
    /// Loads the programs.
    ///
    /// # Errors
    /// The kernel refuses the programs, or lacks something that they need.
    pub fn open() -> Result<Self, BpfError> {
        Self::open_with(&mut BpfLoader::new())
    }

    /// Does the same with a loader that has loaded other programs.
    pub(crate) fn open_with(loader: &mut BpfLoader<'_>) -> Result<Self, BpfError> {
        static CONSTANTS: OnceLock<[(&str, u64); 1]> = OnceLock::new();
        let shift = page_shift()?;
        let mut programs = loader.load(OBJECT, CONSTANTS.get_or_init(|| [("page_shift", shift)]))?;
        let notes = programs.take_map("notes")?;
        // The delivery first: the caller of every noted call is then looked up.
        programs.attach("hardenwhy_deliver", "signal_deliver")?;
        programs.attach("hardenwhy_kill", "signal_generate")?;
        Ok(Self { notes, _programs: programs.into_links() })
    }

    /// Returns where a process made the call that it was killed for. The process had this pid at a time, in milliseconds since
    /// the epoch, and its record has the instruction pointer.
    #[must_use]
    pub fn call_site(&self, pid: u32, at: i64, ip: Option<u64>) -> Option<NotedCallSite> {
        let note = CallNote::read(&self.notes.get(&pid, 0).ok()?)?;
        let noted = Clocks::now().millis_of_boot(i64::try_from(note.time).ok()?);
        let is_of_record = ip.is_none_or(|ip| note.ip == ip) && noted.abs_diff(at) <= MOST_APART_MS.unsigned_abs();
        is_of_record.then_some(note.noted)
    }
}
