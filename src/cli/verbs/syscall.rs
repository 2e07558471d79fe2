//! `syscall`: number, name and groups of a call.

use crate::audit::Note;
use crate::audit::text::{escape_excerpt, join};
use crate::cli::exit_status::{ExitStatus, UsageError};
use crate::cli::lookup::log_groups::load_groups;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, Page, add_notes, styled};
use crate::diagnosis::relatives::{Relative, find_relatives};
use crate::host::log_machine::GroupChoice;
use crate::syscalls::groups::GroupSource;
use crate::syscalls::{Abi, Call, Groups};
use serde::Serialize;
use std::path::Path;

/// A call's numbers and groups.
#[derive(Debug, Serialize)]
pub(crate) struct CallFacts {
    schema: u32,
    name: Option<String>,
    /// The number per ABI; null if the ABI lacks the call.
    numbers: Vec<Number>,
    /// Its groups, smallest first.
    groups: Vec<GroupView>,
    /// Whether the systemd that defines the groups knows the call.
    known_to_systemd: bool,
    /// The systemd version that defines the groups.
    groups_of: String,
    notes: Vec<Note>,
}

/// A call's number in one ABI.
#[derive(Debug, Serialize)]
struct Number {
    arch: &'static str,
    number: Option<u32>,
}

/// A group that holds the call.
#[derive(Debug, Serialize)]
struct GroupView {
    name: String,
    help: String,
    calls: usize,
}

/// Looks up a call by name or number, with this machine's groups or those of a listing.
///
/// # Errors
/// No table has the architecture or the name, or the listing cannot be read.
pub(crate) fn look_up(call: &str, arch: Option<&str>, listing: Option<&Path>) -> anyhow::Result<CallFacts> {
    let abi = match arch {
        None => Abi::native(),
        Some(name) => parse_abi(name)?,
    };
    let (GroupChoice::Local(groups) | GroupChoice::Listed(groups), note) = load_groups(listing)?;
    let number = parse_number(call);
    let call = match number {
        Some(number) => Call::numbered(abi.arch(), number),
        None => find_call(call, abi, arch.is_some(), &groups)?,
    };
    // The number may belong to another ABI of the architecture (x32).
    let abi = if number.is_some() { call.abi().unwrap_or(abi) } else { abi };
    let name = call.name();
    if let (Some(number), None) = (number, name) {
        anyhow::bail!("{} has no call {}", abi.name(), number.cast_signed());
    }
    let holding = name.map_or_else(Vec::new, |name| groups.containing(name));
    let (GroupSource::Host(version) | GroupSource::Embedded(version)) = groups.source();
    Ok(CallFacts {
        schema: SCHEMA,
        name: name.map(ToOwned::to_owned),
        numbers: vec![Number { arch: abi.name(), number: call.number() }],
        groups: holding.into_iter().map(|group| GroupView::new(group, &groups)).collect(),
        known_to_systemd: name.is_some_and(|name| groups.is_known(name)),
        groups_of: format!("systemd {version}"),
        notes: note.into_iter().collect(),
    })
}

/// Parses a call's number, decimal or hexadecimal (`0x3b`), as records of the kernel show it.
fn parse_number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok().or_else(|| word.parse::<i32>().ok().map(i32::cast_unsigned)),
    }
}

fn parse_abi(name: &str) -> anyhow::Result<Abi> {
    Abi::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Abi::all().map(Abi::name).collect();
        let known = known.join(" ");
        UsageError(format!("{} is not a known architecture; these are: {known}", escape_excerpt(name))).into()
    })
}

/// Finds a call by name: of this ABI, or without `--arch` one that any ABI or systemd knows.
fn find_call(name: &str, abi: Abi, strict: bool, groups: &Groups) -> anyhow::Result<Call> {
    let call = Call::named(abi.arch(), name);
    let elsewhere: Vec<&str> = Abi::all().filter(|abi| abi.call_number(name).is_some()).map(Abi::name).collect();
    if abi.call_number(name).is_some() || (!strict && (groups.is_known(name) || !elsewhere.is_empty())) {
        return Ok(call);
    }
    if elsewhere.is_empty() && !groups.is_known(name) {
        anyhow::bail!("{}", describe_unknown(name, groups));
    }
    let (shown, there) = (escape_excerpt(name), abi.name());
    let relatives = find_relatives(abi, name, groups).filter(Relative::does_same_work);
    let relatives: Vec<String> = relatives.map(|relative| relative.call.to_owned()).collect();
    if relatives.is_empty() {
        anyhow::bail!("{there} has no call {shown}; these have: {}", elsewhere.join(" "));
    }
    anyhow::bail!("{there} has no call {shown}: programs there make {}", join(relatives.into_iter()))
}

/// Says that a name is no call, and what may have been meant.
fn describe_unknown(name: &str, groups: &Groups) -> String {
    let shown = escape_excerpt(name);
    if groups.calls(name).is_some() {
        return format!("{shown} is a group of system calls; this lists it: systemd-analyze syscall-filter {shown}");
    }
    let lower = name.to_ascii_lowercase();
    let what = if name.starts_with('@') { "group of system calls" } else { "system call" };
    let meant = if lower != name && (groups.is_known(&lower) || groups.calls(&lower).is_some()) {
        Some(lower.as_str())
    } else if name.starts_with('@') {
        groups.nearest_group(&lower)
    } else {
        groups.nearest_call(&lower)
    };
    let advice = meant.map_or_else(
        || "names are as in 'systemd-analyze syscall-filter'".to_owned(),
        |meant| format!("did you mean {meant}?"),
    );
    format!("{shown} is not a known {what}; {advice}")
}

impl GroupView {
    fn new(name: &str, groups: &Groups) -> Self {
        Self {
            name: name.to_owned(),
            help: groups.help(name).unwrap_or_default().to_owned(),
            calls: groups.calls(name).map_or(0, std::collections::BTreeSet::len),
        }
    }
}

impl Reply for CallFacts {
    fn page(&self, _: Detail) -> String {
        let mut page = Page::default();
        page.line(styled(BAD, self.name.as_deref().unwrap_or("unknown call")));
        for Number { arch, number } in &self.numbers {
            let number =
                number.map_or_else(|| "has no such call".to_owned(), |number| format!("call {}", number.cast_signed()));
            page.field("what", &format!("{arch} {number}"));
        }
        for (index, group) in self.groups.iter().enumerate() {
            let help = if group.help.is_empty() { String::new() } else { format!(": {}", group.help) };
            let text = format!("{}, {} calls{help}", group.name, group.calls);
            page.field(if index == 0 { "groups" } else { "" }, &text);
        }
        if self.groups.is_empty() {
            page.field("groups", if self.known_to_systemd { "none but @known" } else { "none" });
        }
        if !self.known_to_systemd && self.name.is_some() {
            page.paragraph(
                2,
                &format!("{} does not know it, so no SystemCallFilter= can allow it by name.", self.groups_of),
            );
        }
        page.paragraph(2, &format!("Groups are those of {}.", self.groups_of));
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        if self.name.is_some() { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_that_an_architecture_lacks_gets_calls_that_do_its_work() {
        let groups = Groups::embedded();
        let error = |name: &str| find_call(name, Abi::X86_64, true, &groups).unwrap_err().to_string();
        assert_eq!(error("waitpid"), "x86_64 has no call waitpid: programs there make wait4 and waitid");
        assert!(error("socketcall").contains("programs there make accept4, bind, "));
        for name in ["chown32", "setuid32", "setgroups32"] {
            assert!(error(name).starts_with(&format!("x86_64 has no call {name}; these have: ")), "{}", error(name));
        }
    }
}
