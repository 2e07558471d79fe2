//! The clocks in which the kernel tells times: records in wall time, notices in time since boot.

use std::time::Duration;

/// Nanoseconds of a clock tick in `/proc` (`USER_HZ`, 100 on every architecture that systemd runs on).
const TICK_NS: u64 = 10_000_000;

/// What counts as one moment, in nanoseconds, and how often it is tried to read all clocks within one.
const ONE_MOMENT_NS: i64 = 1_000_000;
const MOST_TRIES: u32 = 16;

/// How far ahead of us another reading of the same clock can be, in milliseconds.
const SLACK_MS: i64 = 20;

/// The clocks, read at one moment, in nanoseconds, so that times of one can be told in another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    real: i64,
    pub(crate) monotonic: i64,
    boot: i64,
}

impl Clocks {
    /// Reads them. A busy machine can halt us between two readings, which would then be of two moments:
    /// they are read again.
    pub(crate) fn now() -> Self {
        let mut clocks = Self::read();
        for _ in 0..MOST_TRIES {
            if read(libc::CLOCK_MONOTONIC).saturating_sub(clocks.monotonic) < ONE_MOMENT_NS {
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

    /// A moment in milliseconds since the epoch, in nanoseconds since boot.
    pub(crate) fn boot_ns_of_millis(&self, millis: i64) -> i64 {
        millis.saturating_mul(1_000_000).saturating_sub(self.real.saturating_sub(self.boot))
    }

    /// How long ago a moment in milliseconds since the epoch was.
    pub(crate) fn millis_since(&self, millis: i64) -> i64 {
        (self.real / 1_000_000).saturating_sub(millis)
    }

    /// Whether a moment in milliseconds since the epoch is still to come: whoever noted it had another clock, since set
    /// back, and when it was is not known.
    pub(crate) fn is_to_come(&self, millis: i64) -> bool {
        self.millis_since(millis) < -SLACK_MS
    }

    /// A moment of `CLOCK_MONOTONIC`, in nanoseconds since boot.
    pub(crate) fn boot_ns_of_monotonic(&self, ns: u64) -> i64 {
        let since = self.monotonic.saturating_sub(i64::try_from(ns).unwrap_or(i64::MAX));
        self.boot.saturating_sub(since)
    }

    /// When they were read, in nanoseconds since boot.
    pub(crate) fn boot(&self) -> i64 {
        self.boot
    }

    /// A moment of `CLOCK_MONOTONIC`, in milliseconds since the epoch.
    pub(crate) fn millis_of_monotonic(&self, ns: u64) -> i64 {
        let since = self.monotonic.saturating_sub(i64::try_from(ns).unwrap_or(i64::MAX));
        self.real.saturating_sub(since) / 1_000_000
    }
}

/// When the machine was booted, in milliseconds since the epoch.
#[must_use]
pub fn booted() -> i64 {
    let clocks = Clocks::now();
    clocks.real.saturating_sub(clocks.boot) / 1_000_000
}

/// The time, in milliseconds since the epoch.
#[must_use]
pub fn now_millis() -> i64 {
    read(libc::CLOCK_REALTIME) / 1_000_000
}

/// A process's start in clock ticks since boot, in nanoseconds.
pub(crate) fn ns_of_ticks(ticks: u64) -> i64 {
    i64::try_from(ticks.saturating_mul(TICK_NS)).unwrap_or(i64::MAX)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time`, which is there to be written to.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    if result == 0 { i64::try_from(Duration::new(seconds, nanos).as_nanos()).unwrap_or(i64::MAX) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_is_told_by_every_clock() {
        let clocks = Clocks { real: 1_000_000_000_000, boot: 50_000_000_000, monotonic: 40_000_000_000 };
        assert_eq!(clocks.boot_ns_of_millis(999_000), 49_000_000_000);
        assert_eq!(clocks.millis_of_monotonic(39_000_000_000), 999_000);
        assert_eq!((clocks.boot_ns_of_monotonic(39_000_000_000), clocks.boot()), (49_000_000_000, 50_000_000_000));
        assert_eq!((clocks.millis_since(999_000), clocks.millis_since(1_000_001)), (1_000, -1));
        assert_eq!(
            [999_000, 1_000_020, 1_000_021, i64::MAX].map(|at| clocks.is_to_come(at)),
            [false, false, true, true]
        );
        assert_eq!(clocks.boot_ns_of_millis(i64::MIN), i64::MIN);
        assert_eq!(clocks.millis_of_monotonic(u64::MAX), i64::MAX / 1_000_000, "and nothing overflows");
        assert_eq!((ns_of_ticks(3), ns_of_ticks(u64::MAX)), (30_000_000, i64::MAX));
    }

    #[test]
    fn this_machines_clocks_run() {
        let clocks = Clocks::now();
        // Boot time counts suspension as well.
        assert!(clocks.boot >= clocks.monotonic && clocks.monotonic > 0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let apart = now_millis() - i64::try_from(now.as_millis()).unwrap();
        assert!(apart.abs() < 5_000, "{apart}");
    }
}
