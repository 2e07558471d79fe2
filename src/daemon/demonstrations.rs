//! Processes whose denial root provokes on purpose (`harden-why demo`): they become no incident and no alert.
//!
//! Only root can announce such a process, and only for one record and one death, so that no process hides behind it.

use crate::kernel::proc_events::DeathNotice;
use std::time::{Duration, Instant};

/// How long after its announcement a process may be denied its call. It waits only for the answer to that.
const LONGEST: Duration = Duration::from_secs(5);

/// The most processes at a time.
const MOST: usize = 4;

/// The announced processes.
#[derive(Debug, Default)]
pub(super) struct Demonstrations(Vec<Announced>);

#[derive(Debug)]
struct Announced {
    pid: u32,
    until: Instant,
    awaits_record: bool,
    awaits_exit: bool,
}

impl Demonstrations {
    /// Announces a process.
    pub(super) fn announce(&mut self, pid: u32, now: Instant) {
        self.0.retain(|one| one.until > now && one.pid != pid);
        if self.0.len() < MOST {
            self.0.push(Announced { pid, until: now + LONGEST, awaits_record: true, awaits_exit: true });
        }
    }

    /// Whether a record is that of an announced process. Its next record is not.
    pub(super) fn take_record(&mut self, pid: u32, now: Instant) -> bool {
        self.take(pid, now, |one| std::mem::replace(&mut one.awaits_record, false))
    }

    /// Whether a notice is about the death of an announced process. The pid may then be another's.
    pub(super) fn take_notice(&mut self, notice: &DeathNotice, now: Instant) -> bool {
        match notice {
            DeathNotice::CoreDump(dump) => self.take(dump.pid, now, |one| one.awaits_exit),
            DeathNotice::Exit(exit) => self.take(exit.pid, now, |one| std::mem::replace(&mut one.awaits_exit, false)),
        }
    }

    fn take(&mut self, pid: u32, now: Instant, take: impl Fn(&mut Announced) -> bool) -> bool {
        self.0.iter_mut().find(|one| one.pid == pid && one.until > now).is_some_and(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::proc_events::SigsysExit;

    fn exit(pid: u32) -> DeathNotice {
        DeathNotice::Exit(SigsysExit { pid, parent: None, timestamp_ns: 0, core_dumped: false })
    }

    #[test]
    fn announced_process_has_one_record_and_one_death() {
        let (mut demonstrations, now) = (Demonstrations::default(), Instant::now());
        demonstrations.announce(7, now);
        assert!(!demonstrations.take_record(8, now) && !demonstrations.take_notice(&exit(8), now));
        assert!(demonstrations.take_notice(&exit(7), now), "the death can be told before the record");
        assert!(demonstrations.take_record(7, now));
        assert!(!demonstrations.take_record(7, now) && !demonstrations.take_notice(&exit(7), now), "another process");
    }

    #[test]
    fn announcement_ends_after_seconds_and_has_a_limit() {
        let (mut demonstrations, now) = (Demonstrations::default(), Instant::now());
        for pid in 0..10 {
            demonstrations.announce(pid, now);
        }
        let taken = (0..10).filter(|pid| demonstrations.take_record(*pid, now)).count();
        assert_eq!(taken, MOST);
        demonstrations.announce(20, now + LONGEST);
        assert!(demonstrations.take_record(20, now + LONGEST));
        demonstrations.announce(21, now);
        assert!(!demonstrations.take_record(21, now + LONGEST));
    }
}
