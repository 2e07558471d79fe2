//! The bodies of the fuzz targets. A target reads hostile bytes, and asserts what has to be true of the result.
//!
//! `tests/fuzz/run` calls them with inputs that libFuzzer makes. The test below calls them with the committed inputs, so
//! that each fault that fuzzing found stays fixed.

mod bus_arguments;
mod cgroup_paths;
mod configuration;
mod executables;
mod kernel_messages;
mod logs;
mod remedies;
mod store_rows;

/// A target: it panics if an input breaks a promise.
pub type Target = fn(&[u8]);

/// Every target by the name of its directory in `tests/fuzz/corpora/`.
pub const TARGETS: [(&str, Target); 10] = [
    ("bus-arguments", bus_arguments::check),
    ("cgroup-paths", cgroup_paths::check),
    ("configuration", configuration::check),
    ("executables", executables::check),
    ("journal-exports", logs::check_chunks),
    ("netlink-messages", kernel_messages::check_netlink),
    ("proc-events", kernel_messages::check_proc_event),
    ("records", logs::check_record),
    ("remedies", remedies::check),
    ("store-rows", store_rows::check),
];

/// Returns the target of a name.
#[must_use]
pub fn find_target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// Takes numbers from the start of an input, and texts up to a line feed.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    /// Returns the next number; 0 at the end.
    fn number(&mut self) -> u64 {
        let (bytes, rest) = self.0.split_at(self.0.len().min(8));
        self.0 = rest;
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Returns the next byte; 0 at the end.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Returns the next text.
    fn text(&mut self) -> &'a [u8] {
        let end = memchr::memchr(b'\n', self.0).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix(b"\n").unwrap_or(rest);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_committed_input_keeps_its_targets_promises() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpora");
        for (name, target) in TARGETS {
            let files: Vec<_> = fs::read_dir(corpora.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
            assert!(files.len() >= 5, "{name} has {} inputs", files.len());
            for file in files {
                let input = fs::read(&file).unwrap();
                // Names the input of a panic.
                let caught = std::panic::catch_unwind(|| target(&input));
                assert!(caught.is_ok(), "{}", file.display());
            }
        }
        let directories = fs::read_dir(corpora).unwrap().count();
        assert_eq!(directories, TARGETS.len(), "each directory is a target's");
    }
}
