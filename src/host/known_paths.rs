//! Which denied paths the machine has and lacks. systemd makes no mount at a path that is absent, so `ReadWritePaths=-/path`
//! would open nothing; and it makes no directory for a unit where another program has one.

use crate::diagnosis::Situation;
use crate::incidents::{Access, Incident, IncidentEvent};
use crate::policy::{Need, Policy};
use crate::unit_files::rooted::RootedTree;
use std::io;
use std::path::Path;

/// File systems of the kernel, whose entries come and go.
const OF_THE_KERNEL: [&str; 2] = ["/proc/", "/sys/"];

/// Notes which read-only paths of incidents the machine below a root has, and which it lacks while it has their directories:
/// the calls were to make them.
pub(crate) fn add_known_paths(situation: &mut Situation, root: &Path, incidents: &[Incident]) {
    let policy = &situation.policy;
    let denied = incidents.iter().filter_map(|incident| match &incident.key.event {
        IncidentEvent::Access(denial) => match &denial.access {
            Access::ReadOnlyPath(path) => std::str::from_utf8(path.as_bytes()).ok(),
            _ => None,
        },
        _ => None,
    });
    let (mut absent, mut present): (Vec<Box<str>>, Vec<Box<str>>) = (Vec::new(), Vec::new());
    for path in denied.filter(|path| shows_host(policy, path)) {
        if is_absent(RootedTree::new(root), path) {
            absent.push(path.into());
        } else if RootedTree::new(root).symlink_metadata(Path::new(path)).is_ok() {
            present.push(path.into());
        }
    }
    if !absent.is_empty() || !present.is_empty() {
        situation.policy = situation.policy.clone().with_absent_paths(absent).with_present_paths(present);
    }
}

/// Whether the unit sees the machine's files at a path.
fn shows_host(policy: &Policy, path: &str) -> bool {
    !policy.settings.has_own_root()
        && !OF_THE_KERNEL.iter().any(|above| path.starts_with(above))
        && policy.withholding(Need::See(path.as_bytes()), libc::ENOENT).is_empty()
}

fn is_absent(tree: RootedTree<'_>, path: &str) -> bool {
    let path = Path::new(path);
    let is_missing = tree.symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    is_missing && path.parent().is_some_and(|above| tree.symlink_metadata(above).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{AccessDenial, AccessPath, IncidentKey, Moment, Sample, SightingSource};
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::{Arch, Call, Groups};

    fn situation(lines: &str) -> Situation {
        let file = UnitFile::parse(Path::new("a.service"), format!("[Service]\n{lines}").as_bytes());
        let settings = Settings::new(&"a.service".parse().unwrap(), Some(file), Vec::new());
        let policy = Policy::new(settings, &Groups::embedded());
        Situation { policy, drop_in: "zz.conf".into(), history: None, programs: Vec::new() }
    }

    fn incident(path: &str) -> Incident {
        let access = Access::ReadOnlyPath(AccessPath::new(path.as_bytes()));
        let call = Call::named(Arch::X86_64, "openat");
        let event = IncidentEvent::Access(AccessDenial { call, errno: libc::EROFS, access });
        let key = IncidentKey { unit: None, event, exe: Vec::new(), source: SightingSource::Audit };
        let (first, last) = (Moment::Unknown, Moment::Unknown);
        Incident { key, rung: None, count: 1, first, last, sample: Sample::default() }
    }

    #[test]
    fn optional_line_for_an_absent_path_opens_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("var/lib")).unwrap();
        let path = "/var/lib/new";
        let withholding = |lines: &str| {
            let mut situation = situation(lines);
            add_known_paths(&mut situation, root.path(), &[incident(path)]);
            let groups = Groups::embedded();
            let later = situation.policy.with_dropin(Path::new("b.conf"), b"[Service]\nReadWritePaths=-/x\n", &groups);
            assert_eq!(later.lacks_path(path.as_bytes()), situation.policy.lacks_path(path.as_bytes()), "the proof");
            situation.policy.withholding(Need::Write(path.as_bytes()), libc::EROFS).len()
        };
        let line = "ProtectSystem=strict\nReadWritePaths=-/var/lib/new\n";
        assert_eq!(withholding(line), 1);
        assert_eq!(withholding("ProtectSystem=strict\nReadWritePaths=/var/lib\n"), 0, "its directory is open");
        std::fs::write(root.path().join("var/lib/new"), "").unwrap();
        assert_eq!(withholding(line), 0, "it exists now");
    }

    #[test]
    fn path_that_the_machine_does_not_show_is_not_called_absent() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["data", "proc/sys", "var"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let is_absent = |lines: &str, path: &str| {
            let mut situation = situation(lines);
            add_known_paths(&mut situation, root.path(), &[incident(path)]);
            situation.policy.lacks_path(path.as_bytes())
        };
        assert!(is_absent("ProtectSystem=strict\n", "/data/new"));
        assert!(!is_absent("ProtectSystem=strict\n", "/data/gone/new"), "its directory is gone as well");
        assert!(!is_absent("ProtectKernelTunables=yes\n", "/proc/sys/new"));
        assert!(!is_absent("ProtectSystem=strict\nRootImage=/a.raw\n", "/data/new"));
        assert!(!is_absent("ProtectSystem=strict\nBindReadOnlyPaths=/var:/data\n", "/data/new"));
        assert!(!is_absent("ProtectSystem=strict\nTemporaryFileSystem=/data:ro\n", "/data/new"));
    }
}
