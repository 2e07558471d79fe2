//! Recognises denials that may show an intrusion: a call that controls the machine, made by a process that the unit's
//! settings do not explain.
//!
//! A process in the unit's cgroup descends from the unit's commands in nearly all cases, so only both signs together
//! count. The process does not run as the user that the unit sets (root, if it sets none), and none of the unit's commands
//! runs its program. Scripts and helpers of a service never show both, unless they change their user first.

use crate::audit::text::untrusted_base_name;
use crate::incidents::Incident;
use crate::policy::launched::find_launched;
use crate::policy::{Directive, ExecCommand, Settings};
use crate::syscalls::Groups;

/// Groups whose calls control the machine or other processes.
const GROUPS: [&str; 5] = ["@module", "@raw-io", "@reboot", "@debug", "@mount"];

/// Loads code into the kernel, as @module does, but is in no such group.
const LOADS_CODE: &str = "bpf";

/// The call of these groups that services make to confine themselves.
const CONFINING: &str = "chroot";

/// The uids that systemd allocates for `DynamicUser=` (`DYNAMIC_UID_MIN` and `_MAX`).
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The longest name of a task (`TASK_COMM_LEN` without its end).
const LONGEST_COMM: usize = 15;

/// Whether a denied call may show an intrusion into a unit with these settings.
pub(super) fn may_be_intrusion(incident: &Incident, call: &str, settings: &Settings, groups: &Groups) -> bool {
    let is_in = |group: &&str| groups.calls(group).is_some_and(|calls| calls.contains(call));
    call != CONFINING
        && (call == LOADS_CODE || GROUPS.iter().any(is_in))
        && !can_have_uid(settings, &incident.sample.uid)
        && !settings.commands().iter().any(|command| runs(command, incident))
}

/// Whether a process of the unit can have this uid. The user's name is not resolved here, so a uid other than root's is
/// believed to be the named user's.
fn can_have_uid(settings: &Settings, uid: &str) -> bool {
    let is_root = matches!(uid, "0" | "root");
    let number: Option<u32> = uid.parse().ok();
    let elevated = settings.commands().iter().any(|command| command.elevated);
    let is_dynamic = settings.is_on(Directive::DynamicUser);
    if uid.is_empty() || (is_root && elevated) {
        return true;
    }
    match settings.user() {
        Some("root" | "0") => true,
        Some(user) => match (user.parse::<u32>(), number) {
            (Ok(user), Some(uid)) => user == uid,
            _ => !is_root,
        },
        // Without a user the unit's commands run as root.
        None if is_dynamic => number.is_none_or(|uid| DYNAMIC.contains(&uid)),
        None => is_root || number.is_none(),
    }
}

/// Whether a command runs the program of an incident: itself, by a launcher, or as a script by its interpreter.
fn runs(command: &ExecCommand, incident: &Incident) -> bool {
    let exe = untrusted_base_name(&incident.key.exe);
    let comm = &incident.sample.comm;
    let launched = find_launched(&command.program, &command.arguments);
    let mut programs = std::iter::once(&*command.program).chain(launched.iter().map(AsRef::as_ref));
    exe.is_empty()
        || programs.any(|program| {
            let name = untrusted_base_name(program.as_bytes());
            name == exe || name.get(..LONGEST_COMM).unwrap_or(name) == comm
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::incidents::{Denial, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::policy::UnitFile;
    use crate::syscalls::{Arch, Call};
    use std::path::Path;

    /// Judges a denial of `call` to `exe` with this uid, in a unit with these lines.
    fn judge(lines: &str, call: &str, exe: &str, uid: &str) -> bool {
        let file = UnitFile::parse(Path::new("web.service"), format!("[Service]\n{lines}\n").as_bytes());
        let settings = Settings::new(&"web.service".parse().unwrap(), Some(file), Vec::new());
        let event =
            IncidentEvent::Denial(Denial { call: Call::named(Arch::X86_64, call), action: Action::KillProcess });
        let comm = untrusted_base_name(exe.as_bytes()).to_vec();
        let incident = Incident {
            key: IncidentKey { unit: None, event, exe: exe.into(), source: SightingSource::Audit },
            rung: None,
            count: 1,
            first: Moment::Unknown,
            last: Moment::Unknown,
            sample: Sample { uid: uid.into(), comm, ..Sample::default() },
        };
        may_be_intrusion(&incident, call, &settings, &Groups::embedded())
    }

    const WEB: &str = "ExecStart=/usr/sbin/webd\nUser=web";

    #[test]
    fn controlling_call_of_foreign_program_as_root_may_be_intrusion() {
        for call in ["init_module", "kexec_load", "bpf", "ptrace", "mount", "reboot", "iopl"] {
            assert!(judge(WEB, call, "/tmp/x", "0"), "{call}");
        }
        for call in ["chroot", "setuid", "socket"] {
            assert!(!judge(WEB, call, "/tmp/x", "0"), "{call}");
        }
        assert!(judge("ExecStart=/usr/sbin/webd\nUser=33", "ptrace", "/tmp/x", "34"));
        assert!(judge("ExecStart=/usr/sbin/webd\nDynamicUser=yes", "ptrace", "/tmp/x", "0"));
        for call in ["bpf", "init_module", "kexec_load"] {
            assert!(judge("ExecStart=/usr/sbin/webd", call, "/tmp/x", "65534"), "{call} by a user that no line sets");
        }
    }

    #[test]
    fn process_that_the_settings_explain_is_the_unit_s_own() {
        assert!(!judge(WEB, "mount", "/usr/sbin/webd", "0"), "its own program");
        assert!(!judge(WEB, "mount", "/tmp/x", "33"), "its own user");
        assert!(!judge(WEB, "mount", "/tmp/x", ""), "no uid is known");
        assert!(!judge(WEB, "mount", "", "0"), "no program is known");
        assert!(!judge("ExecStart=/usr/sbin/webd", "mount", "/usr/bin/mount", "0"), "the unit sets no user");
        assert!(!judge("ExecStart=/usr/sbin/webd\nUser=web\nUser=", "mount", "/usr/bin/mount", "0"));
        assert!(!judge("ExecStart=/usr/sbin/webd", "mount", "/usr/sbin/webd", "33"), "its program dropped its rights");
        let elevated = "ExecStartPre=!/usr/bin/prepare\nExecStart=/usr/sbin/webd\nUser=web";
        assert!(!judge(elevated, "mount", "/usr/bin/mount", "0"), "a command runs as root");
        let launched = "ExecStart=/bin/sh -c 'exec /opt/x'\nUser=web";
        assert!(!judge(launched, "mount", "/opt/x", "0"), "its shell runs it");
    }
}
