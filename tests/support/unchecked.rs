//! Says which part of a test a machine cannot check.

use std::io::Write as _;

/// Says why a part of a test does not run on this machine, even if the test passes and its output is captured.
pub(crate) fn say_unchecked(what: &str, why: &str) {
    _ = writeln!(std::io::stderr(), "{}: not checked: {why}", what.replace('\n', ", "));
}
