//! Runs one fuzz target under libFuzzer: the target that `HARDEN_WHY_FUZZ_TARGET` names.
#![no_main]

use harden_why::fuzz_targets::{Target, find_target};
use libfuzzer_sys::fuzz_target;
use nix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::time::Duration;

/// The processor time that an input of `-max_len` bytes may take, with coverage counters and debug assertions. The wall
/// clock says nothing on a busy machine.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Stands in for what libFuzzer does with each comparison of two strings (`FuzzerTracePC.cpp`): keep its bytes, to try them
/// in other inputs. That took two fifths of the time, and the dictionary has the words.
#[unsafe(no_mangle)]
extern "C" fn __wrap___sanitizer_weak_hook_memcmp(_: usize, _: *const u8, _: *const u8, _: usize, _: i32) {}

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("HARDEN_WHY_FUZZ_TARGET").unwrap_or_default();
    find_target(&name).unwrap_or_else(|| panic!("HARDEN_WHY_FUZZ_TARGET={name} names no target"))
});

fuzz_target!(|input: &[u8]| {
    let target = *TARGET;
    let began = processor_time();
    target(input);
    let took = processor_time() - began;
    assert!(took <= MOST_TIME, "{} bytes took {took:?} of processor time, more than {MOST_TIME:?}", input.len());
});

/// Returns the processor time of this thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
