//! The lines of a unit that can give a program an error for a path, an address or a call.
//!
//! Which error a directive gives is a fact of the kernel: a read-only mount EROFS, a covered path ENOENT, an inaccessible
//! one EACCES without the right to pass it, the device filter EPERM, a port EACCES without its capability.

use super::access_needs::find_withholding;
use super::device_nodes::guess_device;
use super::line_to_try::{LineToTry, find_line_to_try};
use super::possible_cause::PossibleCause;
use crate::audit::text::escape;
use crate::incidents::{Access, AccessDenial, AccessPath, AddressRole, FailedAttempt, KnownArgument, name_access};
use crate::policy::lists::parse_boolean;
use crate::policy::{
    Assignment, Capability, CauseReason, DeviceUse, Directive, DirectiveCause, Effect, Need, Policy, Verdict, errno,
    family_name,
};
use crate::syscalls::Call;
use core::net::SocketAddr;

/// The first port that needs no capability (`net.ipv4.ip_unprivileged_port_start`).
const FIRST_FREE_PORT: u16 = 1024;

/// Capabilities by which root passes directories and files of other users.
const PASSING: [&str; 2] = ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];

/// Calls, and the capability whose lack most often makes them fail with EPERM. Some of them also work without it, such as
/// `chmod` of one's own files.
const CAPABILITIES: [(&[&str], &str); 13] = [
    (&["chown", "fchown", "lchown", "fchownat"], "CAP_CHOWN"),
    (&["chmod", "fchmod", "fchmodat"], "CAP_FOWNER"),
    (&["setuid", "setreuid", "setresuid"], "CAP_SETUID"),
    (&["setgid", "setregid", "setresgid", "setgroups"], "CAP_SETGID"),
    (&["mknod", "mknodat"], "CAP_MKNOD"),
    (&["mount", "umount2", "pivot_root", "setns", "sethostname", "setdomainname"], "CAP_SYS_ADMIN"),
    (&["chroot"], "CAP_SYS_CHROOT"),
    (&["setpriority", "sched_setscheduler"], "CAP_SYS_NICE"),
    (&["mlock", "mlockall"], "CAP_IPC_LOCK"),
    (&["ptrace"], "CAP_SYS_PTRACE"),
    (&["settimeofday", "clock_settime", "adjtimex"], "CAP_SYS_TIME"),
    (&["ioperm", "iopl"], "CAP_SYS_RAWIO"),
    (&["socket"], "CAP_NET_RAW"),
];

/// Returns the lines of a unit that can make an attempt fail with its error.
pub(super) fn find_attempt_causes(attempt: &FailedAttempt, policy: &Policy) -> Vec<PossibleCause> {
    let error = attempt.errno;
    let mut causes: Vec<PossibleCause> = Vec::new();
    let mut add = |found: Vec<DirectiveCause>, name: &str| {
        causes.extend(found.iter().map(|cause| with_line(cause, name, attempt, policy)));
    };
    for path in attempt.paths.iter().map(AccessPath::as_bytes) {
        add(path_causes(path, attempt, policy), &escape(path));
    }
    if let Some((address, role)) = attempt.address {
        for (found, name) in address_causes(address, role, error, policy) {
            add(found, &name);
        }
        let is_unreachable = error == libc::ENETUNREACH && role != AddressRole::Bound && !address.ip().is_loopback();
        causes.extend(is_unreachable.then(|| private_network_causes(policy)).into_iter().flatten());
    }
    if let Some(family) = attempt.family.filter(|_| error == libc::EAFNOSUPPORT) {
        let name = family_name(family).unwrap_or("the family");
        let found = policy.withholding(Need::Family(family), error);
        causes.extend(found.iter().map(|cause| with_line(cause, name, attempt, policy)));
    }
    if let KnownArgument::Asks(access @ Access::SetIdProgram(_)) = &attempt.argument {
        let found = policy.withholding(Need::SetId, error);
        causes.extend(found.iter().map(|cause| PossibleCause::new(cause, &name_access(access), Some(error))));
    }
    if let Some(call) = attempt.call {
        causes.extend(call_causes(call, attempt, policy));
    }
    causes
}

/// Returns the lines that make some calls fail with an error, where no message names the call.
pub(super) fn find_error_causes(error: i32, policy: &Policy) -> Vec<PossibleCause> {
    let mut found: Vec<DirectiveCause> = Vec::new();
    for (_, call) in policy.native().calls() {
        for cause in refusing_directives(call, Some(error), policy) {
            let is_same = |known: &DirectiveCause| known.directive == cause.directive && known.origin == cause.origin;
            if !found.iter().any(is_same) {
                found.push(cause);
            }
        }
    }
    let name = errno::name(error).unwrap_or_else(|| error.to_string());
    let of = |cause: &DirectiveCause| PossibleCause {
        word: None,
        does: format!("refuses calls with {name}; no message names the call"),
        ..PossibleCause::new(cause, "", Some(error))
    };
    found.iter().map(of).collect()
}

/// Makes a possible cause of an attempt, with a line that may help. `name` is what the cause withholds, escaped.
fn with_line(cause: &DirectiveCause, name: &str, attempt: &FailedAttempt, policy: &Policy) -> PossibleCause {
    let LineToTry { line, also_needed } = find_line_to_try(cause, name, attempt, policy);
    PossibleCause {
        lines_to_try: line.into_iter().collect(),
        also_needed,
        ..PossibleCause::new(cause, name, Some(attempt.errno))
    }
}

/// Returns the directives that hide a path, if they can give this error; without an error, all that hide it.
pub(super) fn hides(policy: &Policy, path: &[u8], error: Option<i32>) -> Vec<DirectiveCause> {
    // A directory that is inaccessible is empty and has no permissions.
    let can_pass =
        !policy.is_of_user_manager() && PASSING.iter().any(|name| policy.settings.starts_with_capability(name));
    let fits = |cause: &DirectiveCause| match error {
        None => true,
        Some(libc::EACCES) => is_inaccessible(cause, policy),
        Some(libc::ENOENT) => !is_inaccessible(cause, policy) || can_pass,
        Some(_) => false,
    };
    let mut found = policy.withholding(Need::See(path), error.unwrap_or(libc::ENOENT));
    found.retain(fits);
    found
}

/// Whether a directive covers paths with nodes that nobody may use, rather than with an empty or other directory.
fn is_inaccessible(cause: &DirectiveCause, policy: &Policy) -> bool {
    match cause.directive {
        Directive::InaccessiblePaths
        | Directive::ProtectKernelModules
        | Directive::ProtectKernelLogs
        | Directive::ProtectKernelTunables => true,
        Directive::ProtectHome => {
            policy.settings.lines(Directive::ProtectHome).last().is_none_or(|line| &*line.value != "tmpfs")
        }
        _ => false,
    }
}

/// Returns the directives that can give the error for a path.
fn path_causes(path: &[u8], attempt: &FailedAttempt, policy: &Policy) -> Vec<DirectiveCause> {
    let error = attempt.errno;
    match error {
        libc::EROFS => policy.withholding(Need::Write(path), error),
        libc::ENOENT => hides(policy, path, Some(error)),
        libc::EACCES => {
            let mut found = hides(policy, path, Some(error));
            found.extend(policy.withholding(Need::Execute(path), error));
            if found.is_empty() && policy.settings.starts_as_root() && !policy.is_of_user_manager() {
                // Without it, root is stopped by permissions as other users are.
                found = capability(PASSING[0])
                    .map_or_else(Vec::new, |needed| policy.withholding(Need::Bounding(needed), error));
            }
            found
        }
        libc::EPERM if path.starts_with(b"/dev/") => device_causes(path, policy),
        // The dynamic linker maps a library.
        libc::EPERM if attempt.call == Some("mmap") => policy.withholding(Need::Execute(path), error),
        _ => Vec::new(),
    }
}

fn device_causes(path: &[u8], policy: &Policy) -> Vec<DirectiveCause> {
    let known = guess_device(path);
    let by_driver = |line: &Assignment| line.value.starts_with("char-") || line.value.starts_with("block-");
    if known.is_none() && policy.settings.lines(Directive::DeviceAllow).any(by_driver) {
        // One of these lines may allow it.
        return Vec::new();
    }
    let (is_block, major) = known.unwrap_or_default();
    let device = DeviceUse { path, is_block, major, wanted: "rw" };
    policy.withholding(Need::Device(device), libc::EPERM)
}

fn capability(name: &str) -> Option<Capability> {
    name.parse().ok()
}

/// Returns the directives by which a capability is lacking, each set with the name of what it withholds.
fn lacking(name: &str, error: i32, policy: &Policy) -> Vec<(Vec<DirectiveCause>, String)> {
    let Some(needed) = capability(name) else { return Vec::new() };
    let found = [Need::Bounding(needed), Need::Effective(needed)].map(|need| policy.withholding(need, error));
    found.into_iter().map(|found| (found, name.to_owned())).collect()
}

fn address_causes(
    address: SocketAddr,
    role: AddressRole,
    error: i32,
    policy: &Policy,
) -> Vec<(Vec<DirectiveCause>, String)> {
    let name = address.to_string();
    match (error, role) {
        // A port that is refused by another module gives the same error.
        (libc::EACCES, AddressRole::Bound) if (1..FIRST_FREE_PORT).contains(&address.port()) => {
            lacking("CAP_NET_BIND_SERVICE", error, policy)
        }
        (libc::EPERM, AddressRole::Bound) => vec![(policy.withholding(Need::Bind(address), error), name)],
        (libc::EPERM, AddressRole::Reached) => {
            vec![(policy.withholding(Need::Reach(address.ip()), error), address.ip().to_string())]
        }
        _ => Vec::new(),
    }
}

/// Returns the line that leaves a unit no network but its own loopback device.
fn private_network_causes(policy: &Policy) -> Vec<PossibleCause> {
    let lines = policy.settings.lines_in_force("PrivateNetwork");
    let on = lines.into_iter().filter(|line| parse_boolean(&line.value) == Some(true));
    on.map(|line| PossibleCause {
        key: line.key.clone(),
        origin: Some(line.origin.clone()),
        word: None,
        does: "leaves the unit no network but its own loopback device".to_owned(),
        errno: Some(libc::ENETUNREACH),
        fix: None,
        lines_to_try: Vec::new(),
        also_needed: None,
    })
    .collect()
}

/// Returns the lines that can give the error for a call: filters, capabilities and what the kernel itself refuses.
fn call_causes(call: &'static str, attempt: &FailedAttempt, policy: &Policy) -> Vec<PossibleCause> {
    let error = attempt.errno;
    let family =
        attempt.family.map_or(KnownArgument::Unknown, |family| KnownArgument::Asks(Access::AddressFamily(family)));
    let argument = if attempt.argument == KnownArgument::Unknown { &family } else { &attempt.argument };
    let refusing = refusing_directives(call, Some(error), policy);
    // What the argument asks for decides, if the message tells it.
    let is_open = |cause: &&DirectiveCause| {
        *argument == KnownArgument::Unknown || !matches!(cause.why, CauseReason::Argument { .. })
    };
    let mut causes: Vec<PossibleCause> =
        refusing.iter().filter(is_open).map(|cause| PossibleCause::new(cause, call, Some(error))).collect();
    let mut add = |found: Vec<DirectiveCause>, name: &str| {
        causes.extend(found.iter().map(|cause| with_line(cause, name, attempt, policy)));
    };
    let is_code = matches!(call, "mmap" | "mprotect") && matches!(error, libc::EPERM | libc::EACCES);
    match argument {
        KnownArgument::Asks(access) if gives_error(access, error) => {
            let denial =
                AccessDenial { call: Call::named(policy.native().arch(), call), errno: error, access: access.clone() };
            add(find_withholding(&denial, policy), &name_access(access));
        }
        KnownArgument::Unknown if is_code => {
            add(policy.withholding(Need::ExecutableMemory, error), "memory that is writable and executable");
        }
        KnownArgument::Unknown | KnownArgument::Harmless | KnownArgument::Asks(_) => {}
    }
    let needed = find_needed_name(call);
    // Only a higher priority than one's own gives the other error (`set_one_prio`, `kernel/sys.c`).
    let is_refusal = error == libc::EPERM || (error == libc::EACCES && call == "setpriority");
    if let Some(needed) = needed.filter(|_| is_refusal) {
        for (found, name) in lacking(needed, error, policy) {
            add(found, &name);
        }
        if needed == "CAP_SYS_ADMIN" {
            add(policy.withholding(Need::HostUsers, error), "the host's user namespace");
        }
    }
    causes
}

fn find_needed_name(call: &str) -> Option<&'static str> {
    CAPABILITIES.iter().find(|(calls, _)| calls.contains(&call)).map(|(_, name)| *name)
}

/// Returns the capability whose lack most often makes a call fail with EPERM.
pub(crate) fn find_needed_capability(call: &str) -> Option<Capability> {
    find_needed_name(call).and_then(capability)
}

/// Whether a filter that denies what an argument asks for gives this error. Linux 6.3 itself forbids executable memory, with
/// another error.
pub(crate) fn gives_error(access: &Access, error: i32) -> bool {
    match access {
        Access::AddressFamily(_) => error == libc::EAFNOSUPPORT,
        Access::ExecutableMemory => matches!(error, libc::EPERM | libc::EACCES),
        _ => error == libc::EPERM,
    }
}

/// Returns the filters that refuse a call with this error; without an error, with any.
pub(super) fn find_refusals(call: &str, error: Option<i32>, policy: &Policy) -> Vec<PossibleCause> {
    let refusing = refusing_directives(call, error, policy);
    refusing.iter().map(|cause| PossibleCause::new(cause, call, error)).collect()
}

fn refusing_directives(call: &str, error: Option<i32>, policy: &Policy) -> Vec<DirectiveCause> {
    let mut found: Vec<DirectiveCause> = match policy.verdict(policy.native(), call) {
        Verdict::Denied { by, possible, .. } => by.into_iter().chain(possible).collect(),
        Verdict::Possible { by } => by,
        Verdict::Permitted | Verdict::LogOnly { .. } => Vec::new(),
    };
    let fits = |effect: Option<Effect>| match effect {
        Some(Effect::Errno(errno)) => error.is_none_or(|error| error == errno),
        _ => false,
    };
    found.retain(|cause| fits(cause.effect));
    found
}
