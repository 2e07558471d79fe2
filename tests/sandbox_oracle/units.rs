//! Random units, and what their programs print under a real manager.

use crate::manager::TestManager;
use crate::random::Random;
use harden_why::policy::{Policy, Settings, UnitFile};
use harden_why::syscalls::Groups;
use std::fs;
use std::path::Path;

/// How many units each test makes.
pub(crate) const UNITS: usize = 520;

/// How many units start at a time.
const AT_A_TIME: usize = 40;

/// Returns the lines of units: none of the first, and up to `most` random ones of each other.
pub(crate) fn random_units(random: &mut Random, lines: &[&str], most: usize) -> Vec<String> {
    let mut unit =
        || (0..=random.below(most - 1)).fold(String::new(), |text, _| text + lines[random.below(lines.len())] + "\n");
    std::iter::once(String::new()).chain((1..UNITS).map(|_| unit())).collect()
}

/// Starts units that run a shell script with arguments, and returns what each printed: nothing if it did not start.
pub(crate) fn run_units(
    manager: &TestManager,
    name: &str,
    units: &[String],
    script: &str,
    arguments: &[&str],
) -> Vec<String> {
    let names: Vec<String> = (0..units.len()).map(|number| format!("{name}{number}.service")).collect();
    let output = |name: &String| manager.base().join(name).with_extension("out");
    for (name, lines) in names.iter().zip(units) {
        fs::write(output(name), "").unwrap();
        let text = format!(
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c {:?} sh {}\nStandardOutput=truncate:{}\n{lines}",
            script.replace('%', "%%").replace('$', "$$"),
            arguments.join(" "),
            output(name).display(),
        );
        manager.write(name, &text);
    }
    manager.reload();
    for names in names.chunks(AT_A_TIME) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // Some do not start.
        manager.systemctl(&[&["start"], &names[..]].concat());
    }
    names.iter().map(|name| fs::read_to_string(output(name)).unwrap()).collect()
}

/// Returns the policy of a unit with these lines.
pub(crate) fn policy(lines: &str, groups: &Groups) -> Policy {
    let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}").as_bytes());
    Policy::new(Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()), groups)
}
