//! Calls that systemd's own code makes in a service process before it executes the program.

use crate::incidents::{Incident, SightingSource};
use crate::policy::program_path::{is_systemd, is_systemd_executor};

/// The call by which systemd loads a filter. If systemd loads another filter after the one that logs, the record of
/// this call is systemd's own. Under the unit's own settings the denying filter comes last, so this call never fails.
const LOADING: &str = "seccomp";

/// Whether systemd made the call, after it loaded the filter and before it executed the program.
pub(crate) fn is_before_exec(incident: &Incident) -> bool {
    is_systemd_before_exec(&incident.sample.comm, &incident.key.exe)
}

/// Whether a process with this name and executable is systemd's own, which has not executed the unit's program yet.
///
/// systemd names a task `(program)` between fork and exec. Any process can choose such a name, but not the path of its
/// executable. The executor runs only then, and has another name at first: systemd executes it by its descriptor, whose number the
/// kernel takes for the name (`exec_invoke.c`, execveat(2)).
pub(crate) fn is_systemd_before_exec(comm: &[u8], exe: &[u8]) -> bool {
    is_systemd_executor(exe) || (comm.starts_with(b"(") && is_systemd(exe))
}

/// The calls by which systemd starts the program. No unit works without them.
const EXECUTING: [&str; 2] = ["execve", "execveat"];

/// Whether a rehearsal saw a call of systemd's own that is no evidence for a need of the program. systemd mostly succeeds
/// without such a call, or makes it only because of the rehearsal's settings. A start under the unit's own settings shows
/// whether it is needed.
#[must_use]
pub(crate) fn is_systemds_own(incident: &Incident) -> bool {
    let executes =
        incident.denial().and_then(|denial| denial.call.name()).is_some_and(|name| EXECUTING.contains(&name));
    incident.key.source == SightingSource::Rehearsal && is_before_exec(incident) && !executes
}

/// Whether systemd made the call to load a rehearsal's filters, so that the unit had no part in it.
#[must_use]
pub(crate) fn is_rehearsal_filter_load(incident: &Incident) -> bool {
    let loads = incident.denial().is_some_and(|denial| denial.call.name() == Some(LOADING));
    loads && incident.key.source == SightingSource::Rehearsal && is_before_exec(incident)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_in_parentheses_hides_no_process_but_systemd_before_exec() {
        let is = is_systemd_before_exec;
        assert!(is(b"(nginx)", b"/usr/lib/systemd/systemd-executor") && is(b"(nginx)", b"systemd"));
        assert!(is(b"(nginx)", b"/lib/systemd/systemd") && is(b"(nginx)", b"/usr/lib/systemd/systemd (deleted)"));
        assert!(is(b"(nginx)", b"/nix/store/x-systemd-257/lib/systemd/systemd"));
        assert!(is(b"16", b"/usr/lib/systemd/systemd-executor") && !is(b"16", b"/home/x/systemd-executor"));
        assert!(!is(b"(x)", b"python3.11") && !is(b"(x)", b"") && !is(b"systemd", b"systemd"));
        for own in ["/home/x/systemd", "/home/x/lib/systemd/systemd", "./systemd", "/usr/lib/systemd/xsystemd"] {
            assert!(!is(b"(x)", own.as_bytes()), "{own}");
        }
    }
}
