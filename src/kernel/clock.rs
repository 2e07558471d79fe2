//! The clocks of the kernel's times. Records have wall time, death notices `CLOCK_MONOTONIC`, exit notes the time since boot.

use std::time::Duration;

/// Nanoseconds of a clock tick in `/proc` (`USER_HZ`, 100 on every architecture that systemd runs on).
const TICK_NS: u64 = 10_000_000;

/// The time limit in nanoseconds for reading all clocks, and the number of tries.
const READ_WITHIN_NS: i64 = 1_000_000;
const MOST_TRIES: u32 = 16;

/// How long after the end of a process its pid cannot name another process, in milliseconds. The kernel hands out all other
/// pids first (`idr_alloc_cyclic` in `alloc_pid`, kernel/pid.c): 32,768 of them by default, and no machine forks so often in
/// this time.
///
/// The times of a process and of its record may differ by so much, too. Records have the time of the last tick
/// (`ktime_get_coarse_real_ts64`), which is late on a busy emulated processor; and a process that exits reports it to the
/// proc connector some time after the exit note (`do_exit`, kernel/exit.c).
pub(crate) const PID_STABLE_MS: i64 = 100;
const PID_STABLE_NS: i64 = PID_STABLE_MS * 1_000_000;

/// How many milliseconds in the future a record can seem to be, since clocks tick.
const SLACK_MS: i64 = 20;

/// Readings of all clocks at one moment, in nanoseconds. They convert times of one clock to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    real: i64,
    pub(crate) monotonic: i64,
    boot: i64,
}

impl Clocks {
    /// Reads the clocks, and reads them again if a busy machine suspended this thread in between.
    pub(crate) fn now() -> Self {
        let mut clocks = Self::read();
        for _ in 0..MOST_TRIES {
            if read(libc::CLOCK_MONOTONIC).saturating_sub(clocks.monotonic) < READ_WITHIN_NS {
                break;
            }
            clocks = Self::read();
        }
        clocks
    }

    fn read() -> Self {
        Self {
            monotonic: read(libc::CLOCK_MONOTONIC),
            boot: read(libc::CLOCK_BOOTTIME),
            real: read(libc::CLOCK_REALTIME),
        }
    }

    /// The moment of the readings, in nanoseconds since boot.
    pub(crate) fn boot_ns(&self) -> i64 {
        self.boot
    }

    /// Converts milliseconds since the epoch to nanoseconds since boot.
    pub(crate) fn boot_ns_of_millis(&self, millis: i64) -> i64 {
        millis.saturating_mul(1_000_000).saturating_sub(self.real.saturating_sub(self.boot))
    }

    /// Whether a process that started and exited at these times, in nanoseconds since boot, had its pid at a moment, in
    /// milliseconds since the epoch. `None` as exit: the process still exists.
    pub(crate) fn had_pid_at(&self, millis: i64, started: i64, exited: Option<i64>) -> bool {
        let moment = self.boot_ns_of_millis(millis);
        started <= moment.saturating_add(PID_STABLE_NS)
            && exited.is_none_or(|exited| exited >= moment.saturating_sub(PID_STABLE_NS))
    }

    /// Converts nanoseconds since boot to milliseconds since the epoch.
    pub(crate) fn millis_of_boot(&self, ns: i64) -> i64 {
        self.real.saturating_sub(self.boot.saturating_sub(ns)) / 1_000_000
    }

    /// Returns how many milliseconds ago a moment in milliseconds since the epoch was.
    pub(crate) fn millis_since(&self, millis: i64) -> i64 {
        (self.real / 1_000_000).saturating_sub(millis)
    }

    /// Whether a moment in milliseconds since the epoch is in the future. Then the clock was set back after the record, whose
    /// true time is unknown.
    pub(crate) fn is_future(&self, millis: i64) -> bool {
        self.millis_since(millis) < -SLACK_MS
    }

    /// Converts nanoseconds of `CLOCK_MONOTONIC` to milliseconds since the epoch.
    pub(crate) fn millis_of_monotonic(&self, ns: u64) -> i64 {
        let since = self.monotonic.saturating_sub(i64::try_from(ns).unwrap_or(i64::MAX));
        self.real.saturating_sub(since) / 1_000_000
    }
}

/// Returns when the machine booted, in milliseconds since the epoch.
#[must_use]
pub fn boot_time_millis() -> i64 {
    let clocks = Clocks::now();
    clocks.real.saturating_sub(clocks.boot) / 1_000_000
}

/// Returns the time, in milliseconds since the epoch.
#[must_use]
pub fn now_millis() -> i64 {
    read(libc::CLOCK_REALTIME) / 1_000_000
}

/// Whether a time server has set the clock since boot, as far as systemd-timesyncd tells.
///
/// `adjtimex(2)` would know of other time services as well, but `ProtectClock=` and the daemon's own filter deny it.
/// Source: `systemd-timesyncd.service(8)`.
#[must_use]
pub(crate) fn is_synchronized() -> bool {
    std::path::Path::new("/run/systemd/timesync/synchronized").exists()
}

/// Converts clock ticks, as in `/proc/PID/stat`, to nanoseconds.
pub(crate) fn ns_of_ticks(ticks: u64) -> i64 {
    i64::try_from(ticks.saturating_mul(TICK_NS)).unwrap_or(i64::MAX)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which lives on.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    if result == 0 { i64::try_from(Duration::new(seconds, nanos).as_nanos()).unwrap_or(i64::MAX) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_convert_between_clocks_without_overflow() {
        let clocks = Clocks { real: 1_000_000_000_000, boot: 50_000_000_000, monotonic: 40_000_000_000 };
        assert_eq!(clocks.boot_ns_of_millis(999_000), 49_000_000_000);
        assert_eq!(clocks.millis_of_monotonic(39_000_000_000), 999_000);
        assert_eq!(clocks.millis_of_boot(49_000_000_000), 999_000);
        assert_eq!((clocks.millis_since(999_000), clocks.millis_since(1_000_001)), (1_000, -1));
        assert_eq!(
            [999_000, 1_000_020, 1_000_021, i64::MAX].map(|at| clocks.is_future(at)),
            [false, false, true, true]
        );
        assert_eq!(clocks.boot_ns_of_millis(i64::MIN), i64::MIN);
        assert_eq!(clocks.millis_of_monotonic(u64::MAX), i64::MAX / 1_000_000, "no overflow");
        assert_eq!((ns_of_ticks(3), ns_of_ticks(u64::MAX)), (30_000_000, i64::MAX));
    }

    #[test]
    fn pid_names_process_while_it_exists_and_until_pids_are_reused() {
        let clocks = Clocks { real: 1_000_000_000_000, boot: 50_000_000_000, monotonic: 40_000_000_000 };
        // From 5 s to 9 s after the boot.
        let had = |millis: i64| clocks.had_pid_at(950_000 + millis, 5_000_000_000, Some(9_000_000_000));
        assert!(had(5_000) && had(7_000) && had(9_000));
        assert!(had(4_900) && had(9_100), "a late clock, or a late report of the exit");
        assert!(!had(4_899), "before the process");
        assert!(!had(9_101), "after the process");
        assert!(clocks.had_pid_at(1_000_000, 5_000_000_000, None));
        assert!(!clocks.had_pid_at(954_899, 5_000_000_000, None));
    }

    #[test]
    fn clocks_of_this_machine_agree_with_the_standard_library() {
        let clocks = Clocks::now();
        // Boot time counts suspension as well.
        assert!(clocks.boot >= clocks.monotonic && clocks.monotonic > 0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let apart = now_millis() - i64::try_from(now.as_millis()).unwrap();
        assert!(apart.abs() < 5_000, "{apart}");
    }
}
