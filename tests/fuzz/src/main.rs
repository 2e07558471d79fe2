//! Runs one fuzz target under libFuzzer: the target that `HARDEN_WHY_FUZZ_TARGET` names.
#![no_main]

use harden_why::fuzz_targets::{Target, find_target};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("HARDEN_WHY_FUZZ_TARGET").unwrap_or_default();
    find_target(&name).unwrap_or_else(|| panic!("HARDEN_WHY_FUZZ_TARGET={name} names no target"))
});

fuzz_target!(|input: &[u8]| TARGET(input));
