//! Which paths the host lacks. systemd makes no mount at them, so a line such as `ReadWritePaths=-/path` opens nothing.

use super::host_files::symlink_metadata;
use crate::diagnosis::Situation;
use crate::incidents::{Access, Incident, IncidentEvent};
use crate::policy::{Directive, Policy};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Returns the policy with the paths of its own lines that this machine lacks.
pub(crate) fn without_listed_absent(policy: Policy) -> Policy {
    let listed = policy.listed_paths(Directive::ReadWritePaths).into_iter();
    let absent: Vec<Box<str>> = listed.map(|(_, path)| path).filter(|path| is_absent(path)).collect();
    policy.with_absent_paths(absent)
}

/// Adds the read-only paths of incidents that this machine lacks: the calls were to make them.
pub(crate) fn add_absent_paths(situation: &mut Situation, incidents: &[Incident]) {
    let asked = incidents.iter().filter_map(|incident| match &incident.key.event {
        IncidentEvent::Access(denial) => match &denial.access {
            Access::ReadOnlyPath(path) => std::str::from_utf8(path.as_bytes()).ok(),
            _ => None,
        },
        _ => None,
    });
    let absent: Vec<Box<str>> = asked.filter(|path| is_absent(path)).map(Box::from).collect();
    if !absent.is_empty() {
        situation.policy = situation.policy.clone().with_absent_paths(absent);
    }
}

fn is_absent(path: &str) -> bool {
    let found = symlink_metadata(Path::new(OsStr::from_bytes(path.as_bytes())));
    found.is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Need, Settings, UnitFile};
    use crate::syscalls::Groups;

    #[test]
    fn optional_line_for_an_absent_path_opens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let place = std::fs::canonicalize(&directory).unwrap().join("new");
        let path = place.to_str().unwrap();
        let lines = format!("[Service]\nProtectSystem=strict\nReadWritePaths=-{path}\n");
        let file = UnitFile::parse(Path::new("a.service"), lines.as_bytes());
        let settings = Settings::new(&"a.service".parse().unwrap(), Some(file), Vec::new());
        let policy = || without_listed_absent(Policy::new(settings.clone(), &Groups::embedded()));
        let withholding = |policy: &Policy| policy.withholding(Need::Write(path.as_bytes()), libc::EROFS).len();
        let absent = policy();
        assert_eq!((withholding(&absent), absent.lacks_path(path.as_bytes())), (1, true));
        let later = absent.with_dropin(Path::new("b.conf"), b"[Service]\nReadWritePaths=-/x\n", &Groups::embedded());
        assert_eq!(withholding(&later), 1, "the proof of a remedy knows it as well");
        std::fs::write(&place, "").unwrap();
        assert_eq!((withholding(&policy()), policy().lacks_path(path.as_bytes())), (0, false));
    }
}
