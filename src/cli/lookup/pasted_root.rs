//! A root for the unit files that stand between the lines of a log, so that they are read as those below `--root`.

use super::scratch_dir::ScratchDir;
use crate::audit::Note;
use crate::audit::text::{escape, shown_path};
use crate::intake::pasted_units::PastedUnit;
use crate::units::UnitName;
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of units whose own directory is unknown or not one of systemd's.
const DIRECTORY: &str = "/etc/systemd/system";

/// The name of a unit whose file is on standard input.
const UNNAMED: &str = "unnamed.service";

/// Unit files below a temporary root.
#[derive(Debug)]
pub(crate) struct PastedRoot {
    root: ScratchDir,
    /// The units, in the order of their files.
    pub(crate) units: Vec<UnitName>,
    /// Where a file without a path was put.
    pub(crate) notes: Vec<Note>,
}

impl PastedRoot {
    /// Writes the unit files of a log; `None` if it has none. `log` is the file's name, which names a unit file alone, and
    /// `assumed` the unit that the user assumes.
    ///
    /// # Errors
    /// The temporary directory cannot be written.
    pub(crate) fn write(pasted: &[PastedUnit], log: &Path, assumed: Option<&UnitName>) -> anyhow::Result<Option<Self>> {
        if pasted.is_empty() {
            return Ok(None);
        }
        let mut written = Self { root: ScratchDir::new()?, units: Vec::new(), notes: Vec::new() };
        for file in pasted {
            let path = if let Some(path) = &file.path {
                place_of(path)
            } else {
                let of_log = log.file_name().and_then(|name| name.to_str()?.parse::<UnitName>().ok());
                let name = assumed.cloned().or(of_log).map_or_else(|| UNNAMED.to_owned(), |name| name.to_string());
                let path = format!("{DIRECTORY}/{name}");
                let text = format!("the unit file in {} is read as {}", shown_path(log), escape(path.as_bytes()));
                written.notes.push(Note::new("unit-file-in-log", text));
                path
            };
            written.units.extend(unit_of_path(&path).filter(|unit| !written.units.contains(unit)));
            let place = written.root.path.join(path.trim_start_matches('/'));
            let cannot = || format!("cannot write {}", shown_path(&place));
            if let Some(dir) = place.parent() {
                fs::create_dir_all(dir).with_context(cannot)?;
            }
            fs::write(&place, &file.text).with_context(cannot)?;
        }
        Ok(Some(written))
    }

    /// The root.
    pub(crate) fn path(&self) -> PathBuf {
        self.root.path.clone()
    }
}

/// Returns a path in a directory that systemd reads.
fn place_of(path: &str) -> String {
    if path.contains("/systemd/system/") || path.contains("/systemd/user/") || path.contains("/systemd/transient/") {
        return path.to_owned();
    }
    let mut parts = path.rsplit('/');
    let (name, dir) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if dir.strip_suffix(".d").is_some() { format!("{DIRECTORY}/{dir}/{name}") } else { format!("{DIRECTORY}/{name}") }
}

/// Returns the unit of a unit file or of a drop-in of its own.
fn unit_of_path(path: &str) -> Option<UnitName> {
    let mut parts = path.rsplit('/');
    let name = parts.next()?;
    name.parse().ok().or_else(|| parts.next()?.strip_suffix(".d")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_files_are_put_where_systemd_reads_them() {
        for (path, place, unit) in [
            ("/usr/lib/systemd/system/a.service", "/usr/lib/systemd/system/a.service", Some("a.service")),
            ("/nix/store/x-unit-a.service/a.service", "/etc/systemd/system/a.service", Some("a.service")),
            ("/x/a.service.d/o.conf", "/etc/systemd/system/a.service.d/o.conf", Some("a.service")),
            ("/etc/systemd/system/service.d/o.conf", "/etc/systemd/system/service.d/o.conf", None),
        ] {
            let found = unit_of_path(path).map(|unit| unit.to_string());
            assert_eq!((place_of(path).as_str(), found.as_deref()), (place, unit), "{path}");
        }
    }
}
