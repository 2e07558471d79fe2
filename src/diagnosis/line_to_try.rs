//! A line of a drop-in that may help against a possible cause. Nothing proves it, so it opens little, and a unit with it starts
//! wherever the unit started without it.

use super::access_paths::{
    can_own_directory, directory_of, find_data_parent, find_own_directory, is_guarded, is_shared, is_volatile,
};
use crate::incidents::FailedAttempt;
use crate::policy::{CauseReason, Directive, DirectiveCause, Policy};
use crate::units::name::NameParts;

/// A line, and what else is needed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LineToTry {
    pub(super) line: Option<String>,
    /// In words, to follow "and".
    pub(super) also_needed: Option<String>,
}

impl LineToTry {
    fn only(line: String) -> Self {
        Self { line: Some(line), also_needed: None }
    }
}

/// Returns a line that may help against a cause of an attempt. `name` is what the cause withholds, escaped.
pub(super) fn find_line_to_try(
    cause: &DirectiveCause,
    name: &str,
    attempt: &FailedAttempt,
    policy: &Policy,
) -> LineToTry {
    let is_capability = name.starts_with("CAP_") && !policy.is_of_user_manager();
    match cause.directive {
        Directive::CapabilityBoundingSet if is_capability => LineToTry::only(format!("CapabilityBoundingSet={name}")),
        Directive::User | Directive::DynamicUser if is_capability => {
            LineToTry::only(format!("AmbientCapabilities={name}"))
        }
        Directive::RestrictAddressFamilies if matches!(cause.why, CauseReason::Withheld(_)) => {
            LineToTry::only(format!("RestrictAddressFamilies={name}"))
        }
        Directive::ProtectSystem | Directive::ReadOnlyPaths | Directive::DynamicUser
            if attempt.errno == libc::EROFS && is_plain(name) =>
        {
            make_writable(name, attempt.makes_directory, policy).unwrap_or_default()
        }
        _ => LineToTry::default(),
    }
}

/// Whether a path of a message needs no quoting.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c))
}

/// Returns the line that makes a path writable, and no directory of other services. A guarded path has none: a log proves
/// too little for it.
///
/// The kernel looks up the directory of a path before it finds that it cannot write there, so that directory exists. The
/// path itself may be missing, and systemd starts no unit with a missing path in `ReadWritePaths=`, unless `-` precedes it.
fn make_writable(path: &str, makes_directory: bool, policy: &Policy) -> Option<LineToTry> {
    if find_data_parent(path.as_bytes()).is_none() || is_guarded(path.as_bytes()) {
        return None;
    }
    if let Some((directive, name)) = find_own_directory(path) {
        return own_directory(path, name, directive, makes_directory, policy);
    }
    let directory = str::from_utf8(directory_of(path.as_bytes())).ok()?;
    let opens_directory = !is_shared(directory.as_bytes());
    let target = if opens_directory { directory } else { path };
    // `ReadOnlyPaths=` of the same path wins (`append_access_mounts` and `drop_duplicates` in `namespace.c`).
    let is_listed = |(_, listed): &(Box<str>, Box<str>)| &**listed == target;
    if policy.listed_paths(Directive::ReadOnlyPaths).iter().any(is_listed) {
        return None;
    }
    let is_optional = !opens_directory || is_volatile(target.as_bytes());
    let dash = if is_optional { "-" } else { "" };
    let also_needed = (!opens_directory).then(|| format!("create {target} before the start, if it is missing"));
    Some(LineToTry { line: Some(format!("ReadWritePaths={dash}{target}")), also_needed })
}

/// Returns the line by which systemd makes a directory that a program could not make, or one for its file.
fn own_directory(
    path: &str,
    name: &str,
    directive: Directive,
    makes_directory: bool,
    policy: &Policy,
) -> Option<LineToTry> {
    if !can_own_directory(directive, policy) {
        return None;
    }
    let parent = path.strip_suffix(name)?;
    let key = directive.key();
    let own = policy.settings.lines(directive).last().and_then(|line| line.value.split_whitespace().next());
    let own = own.map(|word| word.split(':').next().unwrap_or(word)).filter(|word| is_plain(&format!("/{word}")));
    if makes_directory {
        return Some(LineToTry::only(format!("{key}={name}")));
    }
    if let Some(own) = own {
        let also_needed = Some(format!("write the file as {parent}{own}/{name}: {key}= makes that directory"));
        return Some(LineToTry { line: None, also_needed });
    }
    let own = NameParts::split(policy.settings.name().as_str()).prefix;
    let also_needed = Some(format!("write the file as {parent}{own}/{name}"));
    is_plain(&format!("/{own}")).then(|| LineToTry { line: Some(format!("{key}={own}")), also_needed })
}
