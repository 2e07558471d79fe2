//! Which files make up the configuration, as systemd finds its own (`systemd-system.conf(5)`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Highest priority first.
const PLACES: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];
const MAIN: &str = "harden-why/harden-why.conf";
const DROP_INS: &str = "harden-why/harden-why.conf.d";

/// No sane file is longer.
const MOST: u64 = 64 << 10;

/// The files below a root in the order in which they hold, each over those before: one main file, and one drop-in of each
/// name, those of the place with the highest priority. First come those that are none, which take no other's place.
pub(super) fn all(root: &Path) -> Vec<PathBuf> {
    let (mut none, mut main) = (Vec::new(), None);
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for place in PLACES.map(|place| root.join(place)) {
        let file = place.join(MAIN);
        if is_something_else(&file) {
            none.push(file);
        } else if main.is_none() && file.exists() {
            main = Some(file);
        }
        for entry in std::fs::read_dir(place.join(DROP_INS)).into_iter().flatten().flatten() {
            let file = entry.path();
            if file.extension().is_none_or(|extension| extension != "conf") {
                continue;
            }
            if is_something_else(&file) {
                none.push(file);
            } else {
                drop_ins.entry(entry.file_name()).or_insert(file);
            }
        }
    }
    none.into_iter().chain(main).chain(drop_ins.into_values()).collect()
}

/// Whether it is there, and neither a file nor a device: a directory, say.
fn is_something_else(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !is_mask(&metadata))
}

/// One that is a device says nothing: that is how systemd's drop-ins are masked.
fn is_mask(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

/// What a file says.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if is_mask(&metadata) {
        return Ok(String::new());
    }
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "something else" };
        return Err(format!("has to be a file, and is {what}; it has no effect"));
    }
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("is longer than {MOST} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
