//! How exposed a service is with other settings: `systemd-analyze security`, asked offline about copies of its files
//! (since systemd 250).

use super::syscall_groups::{program, run};
use crate::unit_files::regular_file;
use crate::units::UnitName;
use std::fs::DirBuilder;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

/// How long one run may take; it takes twenty milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Larger files are not copied.
const LARGEST: u64 = 1024 * 1024;

/// What the copy is called: `systemd-analyze` shall not mistake it for a unit of the machine.
const NAME: &str = "harden-why-copy.service";

/// The exposure of a unit as it is and with each of some drop-ins, from 0.0 to 10.0. A drop-in is put where its name
/// sorts it, in place of one of the same name. `None` where it cannot be had.
#[must_use]
pub fn of(name: &UnitName, fragment: &Path, dropins: &[PathBuf], path: &Path, contents: &[&str]) -> Option<Vec<f64>> {
    let program = program().filter(|_| name.suffix() == "service")?;
    let copy = Copy::of(fragment, dropins, path).ok()?;
    let root = format!("--root={}", copy.root.display());
    let ask = || {
        let arguments = ["security", "--offline=true", "--no-pager", &root, NAME];
        overall(&run(&program, &arguments, PATIENCE).ok()?)
    };
    let mut found = vec![ask()?];
    for content in contents {
        fs::write(&copy.slot, content).ok()?;
        found.push(ask()?);
    }
    Some(found)
}

/// The number in the last line, `→ Overall exposure level for x.service: 6.9 MEDIUM`.
fn overall(printed: &str) -> Option<f64> {
    let (_, told) = printed.trim_end().lines().next_back()?.rsplit_once(&format!("{NAME}: "))?;
    told.split(' ').next()?.parse().ok().filter(|level| (0.0..=10.0).contains(level))
}

/// A directory with a unit of its own, gone with this.
struct Copy {
    root: PathBuf,
    /// Where the drop-in goes that is tried.
    slot: PathBuf,
}

impl Copy {
    fn of(fragment: &Path, dropins: &[PathBuf], path: &Path) -> io::Result<Self> {
        let moment = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let root = std::env::temp_dir().join(format!("harden-why-{}-{moment:x}", std::process::id()));
        // Fails if somebody else made it.
        DirBuilder::new().mode(0o700).create(&root)?;
        let units = root.join("etc/systemd/system");
        let dir = units.join(format!("{NAME}.d"));
        let behind = dropins.iter().filter(|other| other.file_name() < path.file_name()).count();
        let copy = Self { slot: dir.join(format!("{behind:04}-b.conf")), root };
        DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
        fs::write(units.join(NAME), read(fragment)?)?;
        for (number, dropin) in dropins.iter().enumerate() {
            // The one that would be replaced is in the slot.
            let same = dropin.file_name() == path.file_name();
            let to =
                if same { copy.slot.clone() } else { dir.join(format!("{number:04}-{}.conf", place(number, behind))) };
            fs::write(to, read(dropin)?)?;
        }
        Ok(copy)
    }
}

/// Before the slot or behind it, where the numbers are the same.
fn place(number: usize, slot: usize) -> char {
    if number < slot { 'a' } else { 'c' }
}

impl Drop for Copy {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.root);
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular_file::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_in_the_last_line() {
        let line = |level: &str| format!("x\n\n→ Overall exposure level for {NAME}: {level} :-)\n");
        assert_eq!(overall(&line("6.9 MEDIUM")), Some(6.9));
        assert_eq!((overall(&line("77 X")), overall(&line("NaN")), overall("")), (None, None, None));
    }

    #[test]
    fn a_drop_in_changes_the_exposure_where_its_name_sorts_it() {
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
        let of =
            |dropins: &[PathBuf], path: &str| of(&name, &fragment, dropins, Path::new(path), &[clock, ""]).unwrap();
        let found = of(&[], "/etc/x.service.d/zz.conf");
        assert_eq!(found.len(), 3);
        assert!(found[1] > found[0] && (found[2] - found[0]).abs() < f64::EPSILON, "{found:?}");
        // A later drop-in has the last word, one of the same name none.
        let dropins = [file("50.conf", "ProtectClock=yes")];
        let behind = of(&dropins, "/etc/x.service.d/40.conf");
        assert!((behind[1] - behind[0]).abs() < f64::EPSILON, "{behind:?}");
        let before = of(&dropins, "/etc/x.service.d/60.conf");
        assert!(before[1] > before[0], "{before:?}");
        let same = of(&dropins, "/etc/x.service.d/50.conf");
        assert!(same[1] > same[0], "{same:?}");
        assert_eq!(super::of(&"x.timer".parse().unwrap(), &fragment, &[], Path::new("a"), &[]), None);
    }
}
