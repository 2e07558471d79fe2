//! Says that a test, or a part of one, does not run on this machine.

/// Says why a test cannot run here. That is a failure if `HARDEN_WHY_REQUIRE_KERNEL=1`, as on the machine of the gate.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_none_or(|value| value != "1"), "required: {why}");
    println!("skipped: {why}");
}

/// Says why a test does not concern this machine, or which tool it lacks that the gate lacks as well.
pub(crate) fn skip_optional(why: &str) {
    println!("skipped: {why}");
}
