//! Causes in words.

use super::answer::{CauseView, DirectiveView};
use crate::audit::Action;
use crate::audit::text::{escape, join, shown_path};
use crate::diagnosis::{DenialCause, Elsewhere, Finding, Fixed, LaterChange, Runtime, TakesEffect};
use crate::incidents::local_time::{LocalTime, moment};
use crate::incidents::{Moment, SightingSource};
use crate::policy;
use crate::policy::{CauseReason, Effect};
use crate::syscalls::{Abi, Call};
use crate::units::Manager;

impl CauseView {
    pub(crate) fn new(finding: &Finding, clock: &LocalTime) -> Self {
        if let Some((kind, words)) = words_without_record(finding) {
            return Self { kind, since: None, changed: None, words: words.to_owned(), directives: Vec::new() };
        }
        let (kind, words) = words_of_cause(finding, clock);
        let changed = match &finding.cause {
            DenialCause::Elsewhere(Elsewhere::Fixed(fixed)) => fixed.at,
            DenialCause::BeforeChange { change, .. } => Some(change.at),
            _ => None,
        };
        let since = changed.and_then(|at| moment(&Moment::At(at)));
        let abi = finding.incident.call().and_then(Call::abi).map_or("", Abi::name);
        let directives = finding.cause.directives().iter().map(|cause| DirectiveView::new(cause, abi)).collect();
        Self { kind, since, changed, words, directives }
    }
}

/// Returns the kind of a cause, and the cause in words.
fn words_of_cause(finding: &Finding, clock: &LocalTime) -> (&'static str, String) {
    match &finding.cause {
        DenialCause::Unit { effect, by, changed } => {
            let kind = if *changed { "settings-changed" } else { "unit" };
            (kind, unit_words(finding, *effect, by, *changed))
        }
        DenialCause::Possible { by } if is_of_strace(finding) && finding.incident.access().is_some() => (
            "possibly-unit",
            format!(
                "possibly the unit's {}: the kernel refuses the call without this capability, and for other reasons",
                join_names(by)
            ),
        ),
        DenialCause::Possible { by } if finding.incident.access().is_some() => (
            "possibly-unit",
            format!("possibly the unit's {}: the value of a specifier in it is unknown here", join_names(by)),
        ),
        DenialCause::Possible { by } => (
            "possibly-unit",
            format!("possibly the unit's {}: that depends on arguments, which no record holds", join_names(by)),
        ),
        DenialCause::PossiblyOtherSystemd { by } => (
            "possibly-unit",
            format!(
                "possibly the unit's {}: the @groups and libseccomp of the log's machine are unknown, and with those \
                of this machine the call would pass. Otherwise it was the program's own sandbox",
                join_names(by)
            ),
        ),
        DenialCause::BeforeChange { by, change } => ("before-change", before_change_words(finding, by, change, clock)),
        DenialCause::Logged { by: Some(_) } => {
            ("logged", "the unit's SystemCallLog= lists it; the call was made".to_owned())
        }
        DenialCause::Logged { by: None } => (
            "logged",
            "a filter logs it, but the unit's SystemCallLog= does not list it: the program's own filter, or a process \
             that a rehearsal left; the call was made"
                .to_owned(),
        ),
        DenialCause::Elsewhere(elsewhere) => elsewhere_words(elsewhere, finding, clock),
        DenialCause::SettingsUnread => (
            "settings-unread",
            unread_words(finding),
        ),
        DenialCause::UnknownCall => (
            "unknown-call",
            "this number has no known name, so no setting of systemd can name it; an allow-list denies it. harden-whyd \
            counts all such numbers of a program together, under the first of them"
                .to_owned(),
        ),
        DenialCause::UnrecordedDeath => (
            "unrecorded-death",
            "unknown, since the kernel sent no record: a filter of the program traps the call, another process sent \
            the signal (kill -SYS), or audit is off, excludes the record or lost it"
                .to_owned(),
        ),
    }
}

/// Says which directives can have acted on a call as the kernel recorded, for a unit whose settings were not read.
fn unread_words(finding: &Finding) -> String {
    const OWN: &str = "the program's own sandbox";
    let action = finding.incident.denial().map(|denial| denial.action);
    let names: Vec<String> = finding.possible.iter().map(|directive| format!("{}=", directive.key())).collect();
    let either = |verb: &str| match names.as_slice() {
        [] => format!("No directive acts like this, so {OWN} probably {verb}"),
        [only] => format!("Either {only} or {OWN} {verb}"),
        [first, rest @ ..] => format!("Either {first}, {} or {OWN} {verb}", rest.join(", ")),
    };
    let guess = match action {
        Some(Action::KillThread) => {
            let older = if names.len() > 1 { ", SystemCallFilter= of systemd before 243," } else { "" };
            format!(
                "Either SystemCallArchitectures= (for calls of another architecture){older} or {OWN} killed the thread"
            )
        }
        Some(Action::Errno) => either("refused the call"),
        Some(Action::Log) => either("logged the call"),
        Some(_) => either("killed it"),
        None => format!("Directives such as {} withhold this", join(names.into_iter())),
    };
    match finding.incident.key.unit {
        Some(_) => format!("cause unknown: harden-why could not read the unit's settings. {guess}"),
        None => format!("cause unknown: the unit of the process is unknown, and so are its settings. {guess}"),
    }
}

/// Describes a denial by the unit's settings.
fn unit_words(finding: &Finding, effect: Effect, by: &[policy::DirectiveCause], changed: bool) -> String {
    let names = join_names_and_verb(by);
    if changed {
        return format!("the unit's {names} it, though more strictly than in the record: the settings changed since");
    }
    if finding.is_systemds_own() {
        return format!(
            "the unit's {names} it, but systemd made the call, not the program: it stays denied, unless the unit does not \
             start without it"
        );
    }
    if finding.has_fallback() {
        let rest = if finding.can_be_lifted() {
            "the remedy below is for these"
        } else {
            "for these, no setting of the unit can let it pass"
        };
        return format!(
            "the unit's {names} it with the error of a kernel that does not know it. Most callers then make an older call, \
             and nothing has to change. Some do not, and fail: {rest}"
        );
    }
    let how = old_kill_words(finding, effect);
    let is_managers = by.iter().all(|cause| cause.why == CauseReason::ManagersAbi);
    let whose = if is_managers { "manager" } else { "unit" };
    format!("the {whose}'s {names} it{how}")
}

fn is_of_strace(finding: &Finding) -> bool {
    matches!(finding.incident.key.source, SightingSource::Strace { .. })
}

/// Returns the cause of what a log tells without a record, where that changes the words.
fn words_without_record(finding: &Finding) -> Option<(&'static str, &'static str)> {
    match (finding.incident.key.source, &finding.cause) {
        (
            SightingSource::Strace { knows_argument: true, .. },
            DenialCause::Elsewhere(Elsewhere::Permitted { .. } | Elsewhere::OtherEffect),
        ) => Some((
            "elsewhere",
            "not the unit's settings: with this argument, they do not make the call fail so. The kernel itself refused \
             it, or another filter",
        )),
        (
            SightingSource::Strace { .. },
            DenialCause::Elsewhere(Elsewhere::Permitted { .. } | Elsewhere::OtherEffect),
        ) => Some((
            "elsewhere",
            "not the unit's settings: they do not make the call fail so. The kernel itself refused it, as for a missing \
             capability, or another filter",
        )),
        (SightingSource::Strace { .. }, DenialCause::SettingsUnread) => Some((
            "settings-unread",
            "unknown: strace shows only the error. A filter of the unit, whose settings were not read, or the kernel \
            itself refused it, as for a missing capability",
        )),
        (SightingSource::Log, DenialCause::UnrecordedDeath) => Some((
            "unrecorded-death",
            "unknown, since the log has no kernel record that names the call: add the output of 'journalctl -k' or \
            'dmesg', or audit.log",
        )),
        _ => None,
    }
}

impl DirectiveView {
    /// Returns the file and line.
    pub(super) fn place(&self) -> String {
        match (&self.file, self.source.as_ref().map(|source| source.number).or(self.line)) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => "as systemd holds it".to_owned(),
        }
    }

    fn new(cause: &policy::DirectiveCause, abi: &str) -> Self {
        Self {
            does: words_around_call(cause, abi),
            source: None,
            directive: cause.directive.key(),
            file: cause.origin.as_ref().map(|origin| shown_path(&origin.path)),
            line: cause.origin.as_ref().map(|origin| origin.line),
            effect: cause.effect.map(|effect| effect.to_string()),
            why: escape(cause.why.to_string().as_bytes()),
        }
    }
}

/// Returns what a line does to calls: the words before and after their names.
fn words_around_call(cause: &policy::DirectiveCause, abi: &str) -> (String, String) {
    let own = |before: &str, after: &str| (before.to_owned(), after.to_owned());
    match &cause.why {
        CauseReason::NotAllowed(_) => own("this allow-list lacks ", ""),
        CauseReason::TakenOff { list, .. } => {
            let line = list.origin.as_ref().filter(|first| {
                cause.origin.as_ref().is_some_and(|origin| origin.path == first.path && origin.line != first.line)
            });
            let which = line.map_or_else(String::new, |first| format!(" of line {}", first.line));
            ("takes ".to_owned(), format!(" off the allow-list{which}"))
        }
        CauseReason::Listed(_) if cause.effect.is_none() => own("logs ", ""),
        CauseReason::Listed(_) => own("denies ", ""),
        CauseReason::NotExempt => own("logs all other calls, and so ", ""),
        CauseReason::UnknownToSystemd => own("this systemd does not know ", ", and its allow-lists deny such calls"),
        CauseReason::UnknownToLibseccomp(_) => own("ignored: this libseccomp does not know ", ""),
        CauseReason::AllowedByOtherSystemd(_) => own("may not allow ", " in that machine's systemd"),
        CauseReason::Abi => ("denies ".to_owned(), format!(": {abi} is not listed")),
        CauseReason::ManagersAbi => ("denies ".to_owned(), format!(": {abi} is not listed, for all units")),
        CauseReason::Always(reason) => ("denies ".to_owned(), format!(": {reason}")),
        CauseReason::Withheld(withheld) => (withheld.before.to_owned(), withheld.after.clone()),
        CauseReason::Argument { which, .. } => {
            ("denies ".to_owned(), format!(", depending on its arguments: {}", escape(which.as_bytes())))
        }
    }
}

fn join_names(by: &[policy::DirectiveCause]) -> String {
    join(by.iter().map(|cause| format!("{}=", cause.directive.key())))
}

/// Says why a filter that kills processes killed a thread.
fn old_kill_words(finding: &Finding, effect: Effect) -> &'static str {
    let killed_thread = finding.incident.denial().is_some_and(|denial| denial.action == Action::KillThread);
    if killed_thread && effect == Effect::Kill {
        ". It kills the thread alone before systemd 243, Linux 4.14 or libseccomp 2.4"
    } else {
        ""
    }
}

fn join_names_and_verb(by: &[policy::DirectiveCause]) -> String {
    format!("{} {}", join_names(by), if by.len() > 1 { "deny" } else { "denies" })
}

fn elsewhere_words(elsewhere: &Elsewhere, finding: &Finding, clock: &LocalTime) -> (&'static str, String) {
    if finding.incident.access().is_some() && matches!(elsewhere, Elsewhere::Permitted { .. }) {
        let words = "none of the unit's current settings withholds this. The host refuses it as well, or the settings \
                     changed since";
        return ("elsewhere", words.to_owned());
    }
    let killed_thread = finding.incident.denial().is_some_and(|denial| denial.action == Action::KillThread);
    let words = match elsewhere {
        Elsewhere::ForeignAction if killed_thread => {
            "not the unit's settings: since version 243, systemd kills the whole process, except for calls of another \
             architecture. It was the program's own sandbox, or a container runtime's; SystemCallFilter= has no part in it"
        }
        Elsewhere::ForeignAction => {
            "not the unit's settings: no version of systemd acts like this. It was the program's own sandbox, or a container \
             runtime's; SystemCallFilter= has no part in it"
        }
        Elsewhere::Permitted { unchanged: true } => {
            "the unit's settings permit the call, and their files have not changed since. The program's own sandbox \
             denied it: more SystemCallFilter= would not help"
        }
        Elsewhere::Permitted { unchanged: false } => {
            "the unit's current settings permit the call. The program's own sandbox denied it, or the settings changed \
             since"
        }
        Elsewhere::OtherEffect => {
            "the unit's current settings would do something else to the call. The program's own sandbox denied it, or \
             the settings changed since"
        }
        Elsewhere::Scope => {
            "not systemd: the unit is a scope, so another program started its processes, and no setting filters \
            their calls. It was the sandbox of the program or of its starter"
        }
        Elsewhere::ExemptCommand { key, origin } => {
            let words = format!(
                "not the unit's settings: {key}=+ in {}:{} runs the program without them. The program's own sandbox \
                 denied it, or the host",
                shown_path(&origin.path),
                origin.line
            );
            return ("elsewhere", words);
        }
        Elsewhere::Runtime(runtime) => {
            let (whose, what) = runtime_words(*runtime);
            return ("runtime", format!("not the unit's settings, but the filter that {whose} puts on it: {what}"));
        }
        Elsewhere::Fixed(fixed) => return fixed_words(finding, fixed, clock),
    };
    ("elsewhere", words.to_owned())
}

/// Names the runtime that installed the filter, and how to change its filter.
fn runtime_words(runtime: Runtime) -> (&'static str, &'static str) {
    match runtime {
        Runtime::Docker => {
            ("Docker", "start the container with a profile that allows the call, --security-opt seccomp=PROFILE.json")
        }
        Runtime::Podman => (
            "Podman",
            "start the container with a profile that allows the call, --security-opt seccomp=PROFILE.json, or \
             SeccompProfile= in a Quadlet file",
        ),
        Runtime::Kubernetes => (
            "the container runtime of Kubernetes",
            "give the pod a profile that allows the call, securityContext.seccompProfile",
        ),
        Runtime::Nerdctl => (
            "containerd",
            "start the container with a profile that allows the call, --security-opt seccomp=PROFILE.json",
        ),
        Runtime::Lxc => (
            "LXC",
            "allow the call in the container's profile: lxc.seccomp.profile, or security.syscalls.* of LXD and Incus",
        ),
        Runtime::Container => (
            "its container runtime",
            "start the container with a profile that allows the call (Docker and Podman: --security-opt \
             seccomp=PROFILE.json)",
        ),
        Runtime::Nspawn => (
            "systemd-nspawn",
            "allow the call with --system-call-filter=CALL, or SystemCallFilter=CALL in the [Exec] section of its \
             .nspawn file",
        ),
        Runtime::Qemu => ("QEMU", "its -sandbox option, which libvirt sets by seccomp_sandbox in qemu.conf, decides"),
        Runtime::Machine => (
            "the program that runs the machine",
            "of systemd-nspawn, allow the call with --system-call-filter=CALL, or SystemCallFilter=CALL in the [Exec] \
             section of its .nspawn file",
        ),
        Runtime::Flatpak => (
            "Flatpak",
            "it forbids what its permissions do not grant; flatpak run --allow=FEATURE lifts some of it (devel, \
             multiarch, bluetooth, canbus)",
        ),
        Runtime::Snap => (
            "snapd",
            "it forbids what the snap's interfaces do not grant; see snap connections, and snappy-debug for which one",
        ),
    }
}

/// Describes a denial that is older than a change of the settings that decide the call.
fn before_change_words(
    finding: &Finding,
    by: &[policy::DirectiveCause],
    change: &LaterChange,
    clock: &LocalTime,
) -> String {
    let then = match change.takes {
        TakesEffect::Now => "Restart the unit to test the change".to_owned(),
        TakesEffect::AfterReload => {
            format!("The change takes effect after {} and a restart", reload_command(finding))
        }
        TakesEffect::AtNextStart => "The change takes effect at the next start".to_owned(),
    };
    format!(
        "denied by {} before {} changed ({}). No process that started later was denied it. {then}",
        join_names(by),
        shown_path(&change.path),
        clock.show_briefly(change.at)
    )
}

/// Returns the command by which the manager of a denied process reads its files again.
fn reload_command(finding: &Finding) -> String {
    finding.incident.key.unit.as_ref().map_or(Manager::System, |unit| unit.manager).systemctl("daemon-reload")
}

fn fixed_words(finding: &Finding, fixed: &Fixed, clock: &LocalTime) -> (&'static str, String) {
    let by = fixed.by.as_deref().map(shown_path);
    let Some(at) = fixed.at else {
        let by = by.unwrap_or_default();
        return ("fixed", format!("fixed, unless the record is newer than {by}: that file allows the call"));
    };
    let when = clock.show_briefly(at);
    let (kind, how, then) = match fixed.takes {
        TakesEffect::Now => ("fixed", format!("fixed since {when}"), "the call is allowed now".to_owned()),
        TakesEffect::AfterReload => (
            "fixed-after-reload",
            format!("fixed at {when}"),
            format!(
                "the call is allowed once systemd reads the file ({}) and the unit restarts",
                reload_command(finding)
            ),
        ),
        TakesEffect::AtNextStart => (
            "fixed-next-start",
            format!("fixed at {when}"),
            "the call is allowed from the next start on; a process keeps the settings of its start".to_owned(),
        ),
    };
    let words = match by {
        Some(by) => format!("{how} by {by}: {then}"),
        None => format!("{how}, as far as known: the settings changed then, and {then}"),
    };
    (kind, words)
}
