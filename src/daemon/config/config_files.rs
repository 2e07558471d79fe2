//! The files of the configuration, found as systemd finds its own (`systemd-system.conf(5)`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// The directories below the root, highest priority first.
const PLACES: [&str; 4] = ["etc", "run", "usr/local/lib", "usr/lib"];
const MAIN: &str = "harden-why/harden-why.conf";
const DROP_INS: &str = "harden-why/harden-why.conf.d";

/// The size limit of a file, in bytes.
const MAX_SIZE: u64 = 64 << 10;

/// Returns the files below a root. Each overrides the files before it.
///
/// The main file, and the drop-in of each name, come from the first directory that has one. Directories and other
/// non-files come first and override nothing.
pub(super) fn find(root: &Path) -> Vec<PathBuf> {
    let (mut non_files, mut main) = (Vec::new(), None);
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for place in PLACES.map(|place| root.join(place)) {
        let file = place.join(MAIN);
        if is_non_file(&file) {
            non_files.push(file);
        } else if main.is_none() && file.exists() {
            main = Some(file);
        }
        for entry in std::fs::read_dir(place.join(DROP_INS)).into_iter().flatten().flatten() {
            let file = entry.path();
            if file.extension().is_none_or(|extension| extension != "conf") {
                continue;
            }
            if is_non_file(&file) {
                non_files.push(file);
            } else {
                drop_ins.entry(entry.file_name()).or_insert(file);
            }
        }
    }
    non_files.into_iter().chain(main).chain(drop_ins.into_values()).collect()
}

/// Whether a path exists, but is neither a file nor a device.
fn is_non_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !is_mask(&metadata))
}

/// Whether a file is a device. A device masks files of its name, as a link to /dev/null does for systemd.
fn is_mask(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

/// Reads a file. A mask reads as empty.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if is_mask(&metadata) {
        return Ok(String::new());
    }
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "something else" };
        return Err(format!("must be a file, but is {what}; ignored"));
    }
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(format!("is longer than {MAX_SIZE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
