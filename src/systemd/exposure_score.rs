//! A service's exposure level with other settings: `systemd-analyze security --offline`, run on a copy of the service's
//! files (since systemd 250).

use super::syscall_groups::{program, run};
use crate::unit_files::regular_file;
use crate::units::UnitName;
use std::fs::DirBuilder;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

/// The time limit of one run. A run normally takes twenty milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The copy of a file ends after this many bytes.
const LARGEST: u64 = 1024 * 1024;

/// The name of the copy. `systemd-analyze` must not mistake the copy for a unit of the machine.
const NAME: &str = "harden-why-copy.service";

/// Returns the exposure levels of a unit, from 0.0 to 10.0: first as it is, then with each of the `contents` as a
/// drop-in. The file name in `path` decides the drop-in's place in the merge order. The drop-in replaces one of the
/// same name. `None` if systemd gives no level.
#[must_use]
pub(crate) fn measure_exposure(
    name: &UnitName,
    fragment: &Path,
    dropins: &[PathBuf],
    path: &Path,
    contents: &[&str],
) -> Option<Vec<f64>> {
    measure_within(PATIENCE, name, fragment, dropins, path, contents)
}

/// Measures as [`measure_exposure`] does. `patience` is the time limit of each run of systemd-analyze.
fn measure_within(
    patience: Duration,
    name: &UnitName,
    fragment: &Path,
    dropins: &[PathBuf],
    path: &Path,
    contents: &[&str],
) -> Option<Vec<f64>> {
    let program = program().filter(|_| name.suffix() == "service")?;
    let copy = UnitCopy::create(fragment, dropins, path).ok()?;
    let root = format!("--root={}", copy.root.display());
    let measure = || {
        let arguments = ["security", "--offline=true", "--no-pager", &root, NAME];
        parse_level(&run(&program, &arguments, patience).ok()?)
    };
    let mut found = vec![measure()?];
    for content in contents {
        fs::write(&copy.slot, content).ok()?;
        found.push(measure()?);
    }
    Some(found)
}

/// Parses the number in the last line, `→ Overall exposure level for x.service: 6.9 MEDIUM`.
fn parse_level(printed: &str) -> Option<f64> {
    let (_, level) = printed.trim_end().lines().next_back()?.rsplit_once(&format!("{NAME}: "))?;
    level.split(' ').next()?.parse().ok().filter(|level| (0.0..=10.0).contains(level))
}

/// A temporary directory with a copy of a unit. Dropping this removes it.
struct UnitCopy {
    root: PathBuf,
    /// The path of the drop-in under test.
    slot: PathBuf,
}

impl UnitCopy {
    fn create(fragment: &Path, dropins: &[PathBuf], path: &Path) -> io::Result<Self> {
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let root = std::env::temp_dir().join(format!("harden-why-{}-{moment:x}", std::process::id()));
        // Fails if another user made the directory.
        DirBuilder::new().mode(0o700).create(&root)?;
        let units = root.join("etc/systemd/system");
        let dir = units.join(format!("{NAME}.d"));
        let behind = dropins.iter().filter(|other| other.file_name() < path.file_name()).count();
        let copy = Self { slot: dir.join(format!("{behind:04}-b.conf")), root };
        DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
        fs::write(units.join(NAME), read_file(fragment)?)?;
        for (number, dropin) in dropins.iter().enumerate() {
            // The slot holds the drop-in that the tested drop-in replaces.
            let same = dropin.file_name() == path.file_name();
            let to = if same {
                copy.slot.clone()
            } else {
                dir.join(format!("{number:04}-{}.conf", order_letter(number, behind)))
            };
            fs::write(to, read_file(dropin)?)?;
        }
        Ok(copy)
    }
}

/// Returns a letter that sorts a file before or after the slot, even if both have the same number.
fn order_letter(number: usize, slot: usize) -> char {
    if number < slot { 'a' } else { 'c' }
}

impl Drop for UnitCopy {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.root);
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular_file::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_parsed_from_last_line() {
        let line = |level: &str| format!("x\n\n→ Overall exposure level for {NAME}: {level} :-)\n");
        assert_eq!(parse_level(&line("6.9 MEDIUM")), Some(6.9));
        assert_eq!((parse_level(&line("77 X")), parse_level(&line("NaN")), parse_level("")), (None, None, None));
    }

    #[test]
    fn drop_in_changes_exposure_by_merge_order_of_its_name() {
        if program().is_none() {
            assert!(std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_none_or(|value| value != "1"));
            println!("skipped: no systemd-analyze");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), format!("[Service]\n{text}\n")).unwrap();
            dir.path().join(name)
        };
        let fragment = file("x.service", "ExecStart=/bin/true\nProtectClock=yes");
        let name = "x.service".parse().unwrap();
        let clock = "[Service]\nProtectClock=no\n";
        let patience = Duration::from_mins(5);
        let levels = |dropins: &[PathBuf], path: &str| {
            measure_within(patience, &name, &fragment, dropins, Path::new(path), &[clock, ""]).unwrap()
        };
        let found = levels(&[], "/etc/x.service.d/zz.conf");
        assert_eq!(found.len(), 3);
        assert!(found[1] > found[0] && (found[2] - found[0]).abs() < f64::EPSILON, "{found:?}");
        // The last drop-in decides; the tested drop-in replaces one of the same name.
        let dropins = [file("50.conf", "ProtectClock=yes")];
        let behind = levels(&dropins, "/etc/x.service.d/40.conf");
        assert!((behind[1] - behind[0]).abs() < f64::EPSILON, "{behind:?}");
        let before = levels(&dropins, "/etc/x.service.d/60.conf");
        assert!(before[1] > before[0], "{before:?}");
        let same = levels(&dropins, "/etc/x.service.d/50.conf");
        assert!(same[1] > same[0], "{same:?}");
        assert_eq!(measure_exposure(&"x.timer".parse().unwrap(), &fragment, &[], Path::new("a"), &[]), None);
    }
}
