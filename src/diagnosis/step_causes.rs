//! The lines that systemd applies in a step that failed before it executed a unit's program.

use super::access_paths::{can_own_directory, find_own_directory};
use super::attempt_causes::{find_refusals, hides};
use super::exit_steps::{ExitStep, find_tried};
use super::possible_cause::PossibleCause;
use crate::audit::text::escape;
use crate::incidents::{AccessPath, FailedStep};
use crate::policy::lists::parse_boolean;
use crate::policy::{Assignment, Capability, Directive, DirectiveCause, Need, Origin, Policy, errno, find_withheld};

/// The keys of lines for which a unit needs a mount namespace of its own (`needs_mount_namespace` in `execute.c`).
const NAMESPACED: [&str; 27] = [
    "DynamicUser",
    "IPCNamespacePath",
    "NetworkNamespacePath",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivatePIDs",
    "RootDirectory",
    "RootImage",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "ProcSubset",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
];

/// Returns the lines of a unit that can make a step fail as systemd tells.
pub(super) fn find_step_causes(step: ExitStep, reported: &[&FailedStep], policy: &Policy) -> Vec<PossibleCause> {
    let error = reported.iter().find_map(|reported| reported.errno);
    let detailed = || reported.iter().rev().filter(|reported| *reported.tried != *step.name);
    let keys = detailed()
        .find_map(|reported| find_tried(&reported.tried).map(|(_, keys)| keys).filter(|keys| !keys.is_empty()));
    let lines = |keys: &[&str]| -> Vec<PossibleCause> {
        let lines = keys.iter().flat_map(|key| policy.settings.lines_in_force(key));
        lines.filter(|line| !is_off(line)).map(|line| describe_line(line, error)).collect()
    };
    match (step.name, keys) {
        ("CHDIR", _) => {
            let found = lines(step.keys).into_iter().map(|cause| with_missing_directory(cause, policy));
            working_directory_causes(policy, error).unwrap_or_else(|| found.collect())
        }
        ("EXEC", _) => exec_causes(reported, error, policy),
        ("NAMESPACE", None) => {
            let path = detailed().find_map(|reported| reported.path.as_ref());
            let is_refused = path.is_none() && matches!(error, Some(libc::EPERM | libc::EACCES));
            let needing = || lines(&NAMESPACED).into_iter().map(move |cause| with_refused_namespace(cause, error));
            if is_refused { needing().collect() } else { mount_causes(path, error, policy) }
        }
        ("CAPABILITIES", keys) => {
            let keys = keys.unwrap_or(step.keys);
            let drops = keys.contains(&"CapabilityBoundingSet");
            let unbound =
                if keys.contains(&"AmbientCapabilities") { unbound_causes(policy, error) } else { Vec::new() };
            if !unbound.is_empty() {
                return unbound;
            }
            lines(keys).into_iter().chain(drops.then(|| dropping_causes(policy, error)).into_iter().flatten()).collect()
        }
        ("SECCOMP", None) => filter_causes(policy, error),
        ("USER", keys) => {
            let found = lines(keys.unwrap_or(step.keys)).into_iter();
            found.map(|cause| with_missing_user(cause, policy)).collect()
        }
        ("CREDENTIALS", _) => {
            lines(keys.unwrap_or(step.keys)).into_iter().map(|cause| with_missing_credential(cause, policy)).collect()
        }
        ("GROUP", None) => Some(lines(step.keys)).filter(|found| !found.is_empty()).unwrap_or_else(|| lines(&["User"])),
        (_, Some(keys)) => lines(keys),
        (_, None) => lines(step.keys),
    }
}

/// Whether a line turns its key off, or names its default. A number can be a value of a list.
fn is_off(line: &Assignment) -> bool {
    let is_switch = line.key.starts_with("Private") || Directive::from_key(&line.key).is_some();
    let is_default = matches!((&*line.key, &*line.value), ("ProtectProc", "default") | ("ProcSubset", "all"));
    is_default || (parse_boolean(&line.value) == Some(false) && (is_switch || &*line.value != "0"))
}

fn describe_line(line: &Assignment, error: Option<i32>) -> PossibleCause {
    let does = format!("systemd could not apply it{}", describe_error(error));
    let (key, origin) = (line.key.clone(), Some(line.origin.clone()));
    PossibleCause {
        key,
        origin,
        word: None,
        does,
        errno: error,
        fix: None,
        lines_to_try: Vec::new(),
        also_needed: None,
    }
}

/// Returns the value of the line that a cause names.
fn find_value<'a>(cause: &PossibleCause, policy: &'a Policy) -> Option<&'a str> {
    let lines = policy.settings.lines_in_force(&cause.key);
    let line = lines.into_iter().find(|line| Some(&line.origin) == cause.origin.as_ref())?;
    Some(&line.value)
}

/// Says that systemd may not make the namespace that a line needs.
fn with_refused_namespace(cause: PossibleCause, error: Option<i32>) -> PossibleCause {
    let does = format!("needs a mount namespace, which this machine or container forbids{}", describe_error(error));
    PossibleCause { does, ..cause }
}

/// Says that the user of a line does not exist, where systemd found none (`get_user_creds` in `user-util.c`).
fn with_missing_user(cause: PossibleCause, policy: &Policy) -> PossibleCause {
    let is_missing = &*cause.key == "User" && cause.errno == Some(libc::ESRCH);
    let name = find_value(&cause, policy).filter(|_| is_missing).map(|name| escape(name.as_bytes()));
    let Some(name) = name else { return cause };
    let fix = "create the user (systemd-sysusers(8)), or name another in User=";
    PossibleCause { does: format!("user {name} does not exist"), fix: Some(fix.to_owned()), ..cause }
}

/// Says that the working directory does not exist.
fn with_missing_directory(cause: PossibleCause, policy: &Policy) -> PossibleCause {
    let is_missing = cause.errno == Some(libc::ENOENT);
    let path = find_value(&cause, policy).filter(|path| is_missing && path.starts_with('/') && !path.contains('%'));
    let Some(path) = path.map(|path| escape(path.as_bytes())) else { return cause };
    let fix = format!("create {path}, or write WorkingDirectory=-{path} to start without it");
    PossibleCause { does: format!("{path} does not exist"), fix: Some(fix), ..cause }
}

/// Returns the lines that take a capability of `AmbientCapabilities=` out of the bounding set: the kernel then refuses it
/// (`cap_capset` in `security/commoncap.c`).
fn unbound_causes(policy: &Policy, error: Option<i32>) -> Vec<PossibleCause> {
    if error.is_some_and(|error| error != libc::EPERM) {
        return Vec::new();
    }
    let named = (0..=63).filter_map(|number| {
        let capability = Capability::new(number);
        Some((capability, capability.name()?))
    });
    let ambient = named.filter(|(_, name)| policy.settings.program().has_ambient_capability(name));
    let causes = ambient.flat_map(|(capability, name)| {
        let found = policy.withholding(Need::Bounding(capability), libc::EPERM);
        found.into_iter().map(move |cause| {
            let is_set = cause.directive == Directive::CapabilityBoundingSet;
            let add = if is_set { format!("add {name} to CapabilityBoundingSet=, or ") } else { String::new() };
            let fix = Some(format!("{add}take {name} out of AmbientCapabilities="));
            PossibleCause { fix, ..PossibleCause::new(&cause, name, error) }
        })
    });
    causes.collect()
}

/// Says that the file of a credential does not exist.
fn with_missing_credential(cause: PossibleCause, policy: &Policy) -> PossibleCause {
    let path = find_value(&cause, policy).and_then(|value| Some(value.split_once(':')?.1));
    let path = path.filter(|path| cause.errno == Some(libc::ENOENT) && path.starts_with('/'));
    let Some(path) = path.map(|path| escape(path.as_bytes())) else { return cause };
    PossibleCause { does: format!("{path} does not exist"), fix: Some(format!("create {path}")), ..cause }
}

fn describe_error(error: Option<i32>) -> String {
    error.and_then(errno::name).map_or_else(String::new, |name| format!(": {name}"))
}

/// Returns the lines that hide the working directory; `None` if it is unknown, or nothing hides it.
fn working_directory_causes(policy: &Policy, error: Option<i32>) -> Option<Vec<PossibleCause>> {
    let lines = policy.settings.lines_in_force("WorkingDirectory");
    let path = lines.first()?.value.trim_start_matches('-');
    let found = hides(policy, path.as_bytes(), error);
    let causes: Vec<_> = found.iter().map(|cause| PossibleCause::new(cause, &escape(path.as_bytes()), error)).collect();
    (!causes.is_empty()).then_some(causes)
}

/// Returns the lines by which a program is not found or not executed.
fn exec_causes(reported: &[&FailedStep], error: Option<i32>, policy: &Policy) -> Vec<PossibleCause> {
    let reported: Vec<&[u8]> =
        reported.iter().filter_map(|reported| reported.path.as_ref()).map(AccessPath::as_bytes).collect();
    let own = policy.settings.commands().iter().map(|command| command.program.as_bytes());
    let mut programs: Vec<&[u8]> = if reported.is_empty() { own.collect() } else { reported };
    programs.dedup();
    let mut causes = Vec::new();
    for program in programs {
        let name = escape(program);
        let named = |found: Vec<DirectiveCause>| -> Vec<PossibleCause> {
            found.iter().map(|cause| PossibleCause::new(cause, &name, error)).collect()
        };
        causes.extend(named(hides(policy, program, error)));
        if error.is_none_or(|error| error == libc::EACCES) {
            causes.extend(named(policy.withholding(Need::Execute(program), libc::EACCES)));
        }
    }
    causes.extend(find_refusals("execve", error, policy));
    let has_root = error.is_none_or(|error| error == libc::ENOENT) && causes.is_empty();
    let roots = ["RootDirectory", "RootImage"].iter().flat_map(|key| policy.settings.lines_in_force(key));
    let of_root = |line: &Assignment| {
        let does = "the program and its libraries have to be below this root".to_owned();
        PossibleCause { does, ..describe_line(line, error) }
    };
    causes.extend(roots.filter(|line| has_root && &*line.value != "/").map(of_root));
    causes
}

/// Returns the words by which systemd mounts at a path that it names, or, without a path, the only word whose path has to
/// exist.
fn mount_causes(path: Option<&AccessPath>, error: Option<i32>, policy: &Policy) -> Vec<PossibleCause> {
    let is_missing = error == Some(libc::ENOENT);
    let Some(path) = path else {
        let mut required = policy.required_paths();
        let only = required.pop().filter(|_| required.is_empty() && (is_missing || error.is_none()));
        return only.map(|(cause, path)| describe_mount(&cause, path.as_bytes(), error, policy)).into_iter().collect();
    };
    let root = policy.settings.lines_in_force("RootDirectory");
    let root = root.first().map_or("", |line| line.value.trim_end_matches('/'));
    let below = path.as_bytes().strip_prefix(root.as_bytes()).filter(|rest| rest.starts_with(b"/"));
    let path = below.unwrap_or(path.as_bytes());
    policy.mounting(path).iter().map(|cause| describe_mount(cause, path, error, policy)).collect()
}

fn describe_mount(cause: &DirectiveCause, path: &[u8], error: Option<i32>, policy: &Policy) -> PossibleCause {
    let made = PossibleCause::new(cause, "", error);
    let word = escape(made.word.as_deref().unwrap_or_default().as_bytes());
    // systemd makes the target of a bind mount: what is missing is its source.
    let is_bind = matches!(cause.directive, Directive::BindPaths | Directive::BindReadOnlyPaths);
    let source = word.trim_start_matches('-').split(':').next().filter(|source| is_bind && !source.is_empty());
    let name = source.map_or_else(|| escape(path), ToOwned::to_owned);
    let is_listed = !word.is_empty() && !word.starts_with('-') && error == Some(libc::ENOENT);
    if !is_listed {
        return PossibleCause { does: format!("systemd could not mount {name}{}", describe_error(error)), ..made };
    }
    let optional = format!("write -{word} in place of {word}: systemd skips it while {name} is missing");
    let text = str::from_utf8(path).unwrap_or_default();
    // A name with a dot is rather that of a file, such as a PID file, and a directory in its place does not help.
    let own = find_own_directory(text).filter(|(directive, name)| {
        cause.directive == Directive::ReadWritePaths && !name.contains('.') && can_own_directory(*directive, policy)
    });
    let own = own.map(|(own, name)| format!("; or write {}={name}, which makes it", own.key())).unwrap_or_default();
    PossibleCause { does: format!("{name} does not exist"), fix: Some(format!("{optional}{own}")), ..made }
}

/// Returns the switches that drop capabilities, which a user manager may not do.
fn dropping_causes(policy: &Policy, error: Option<i32>) -> Vec<PossibleCause> {
    let on = Directive::switches().filter(|directive| !find_withheld(*directive).is_empty());
    let on =
        on.filter_map(|directive| Some((directive, policy.settings.switch(directive).filter(|switch| switch.on)?)));
    on.map(|(directive, switch)| {
        let does = format!("drops {}{}", find_withheld(directive).join(" and "), describe_error(error));
        describe_directive(directive, switch.origin.clone(), does, error)
    })
    .collect()
}

fn describe_directive(directive: Directive, origin: Origin, does: String, errno: Option<i32>) -> PossibleCause {
    PossibleCause {
        key: directive.key().into(),
        origin: Some(origin),
        word: None,
        does,
        errno,
        fix: None,
        lines_to_try: Vec::new(),
        also_needed: None,
    }
}

/// Returns the lines for which systemd installs filters.
fn filter_causes(policy: &Policy, error: Option<i32>) -> Vec<PossibleCause> {
    let filters = policy.filtering_directives().into_iter().rev();
    let lines = filters.filter_map(|directive| policy.settings.lines(directive).last());
    lines.map(|line| describe_line(line, error)).collect()
}
