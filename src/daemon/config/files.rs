//! Which files make up the configuration, as systemd finds its own (`systemd-system.conf(5)`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Highest priority first.
const PLACES: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];
const MAIN: &str = "harden-why/harden-why.conf";
const DROP_INS: &str = "harden-why/harden-why.conf.d";

/// No sane file is longer.
const MOST: u64 = 64 << 10;

/// The files below a root in the order in which they hold, each over those before: one main file, and one drop-in of each
/// name, those of the place with the highest priority.
pub(super) fn all(root: &Path) -> Vec<PathBuf> {
    let places = || PLACES.iter().map(|place| root.join(place));
    let main = places().map(|place| place.join(MAIN)).find(|file| file.exists());
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for place in places() {
        for entry in std::fs::read_dir(place.join(DROP_INS)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "conf") {
                drop_ins.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
    }
    main.into_iter().chain(drop_ins.into_values()).collect()
}

/// What a file says. One that is a device says nothing: that is how systemd's drop-ins are masked.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("is longer than {MOST} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
