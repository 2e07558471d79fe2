//! Adds to denials that killed a process who called the caller, as the stack of the core dump in the journal shows it.

use crate::incidents::{CallSite, CodePlace, Incident, IncidentEvent, Moment};
use crate::intake::core_dump_text::call_site_of_message;
use crate::systemd::journal::{DumpedCore, JournalReader};

/// The most incidents whose core dumps are looked for.
const MOST: usize = 16;

/// Adds further callers to incidents, where the journal has the core dump. Blocks on file reads.
///
/// Only root and the groups of the journal may read these entries; others see the callers that the kernel noted.
pub(crate) fn add_dumped_callers(incidents: &mut [Incident]) {
    let mut killed: Vec<&mut Incident> = incidents.iter_mut().filter(|one| lacks_callers(one)).take(MOST).collect();
    let times = killed.iter().filter_map(|incident| match (&incident.first, &incident.last) {
        (Moment::At(first), Moment::At(last)) => Some((*first, *last)),
        _ => None,
    });
    let Some((first, last)) = times.reduce(|all, next| (all.0.min(next.0), all.1.max(next.1))) else { return };
    let pids: Vec<u32> = killed.iter().map(|incident| incident.sample.pid).collect();
    match JournalReader::default().core_dumps(&pids, first, last) {
        Ok(dumped) => killed.iter_mut().for_each(|incident| add_callers(incident, &dumped)),
        Err(error) => tracing::debug!("no core dumps for further callers: {error}"),
    }
}

/// Whether a process was killed, and its call has no callers but those that the kernel noted.
fn lacks_callers(incident: &Incident) -> bool {
    let IncidentEvent::Denial(denial) = &incident.key.event else { return false };
    let site = incident.sample.call_site.as_deref();
    denial.action.is_kill() && site.is_some_and(|site| site.further.is_empty())
}

fn add_callers(incident: &mut Incident, dumped: &[DumpedCore]) {
    let Some(site) = incident.sample.call_site.as_deref_mut() else { return };
    let of_process = dumped.iter().filter(|dump| {
        dump.death.pid == Some(incident.sample.pid) && Some(&dump.death.unit) == incident.key.unit.as_ref()
    });
    for stack in of_process.filter_map(|dump| call_site_of_message(&dump.message)) {
        if extend(site, stack) {
            return;
        }
    }
}

/// Adds what a stack has above the places that the kernel noted. Returns whether the stack begins with these places.
fn extend(site: &mut CallSite, stack: CallSite) -> bool {
    let is_same = |noted: &CodePlace, dumped: &CodePlace| {
        noted.offset == dumped.offset && noted.file_name() == dumped.file_name()
    };
    if !is_same(&site.code, &stack.code) {
        return false;
    }
    match (&site.caller, &stack.caller) {
        (Some(noted), Some(dumped)) if !is_same(noted, dumped) => return false,
        (Some(_), None) => return true,
        (None, Some(_)) => site.caller = stack.caller,
        _ => {}
    }
    site.further = stack.further;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"Process 7 (a) of user 0 dumped core.\n\nModule liba.so.1 with build-id 0bff10aa\n\
        Stack trace of thread 7:\n#0  0x00007f50c3a1 __socket (libc.so.6 + 0x1234)\n\
        #1  0x00007f50c3a2 open_it (liba.so.1 + 0x20)\n#2  0x00007f50c3a3 main (a + 0x30)\n";

    fn place(path: &str, offset: u64) -> CodePlace {
        CodePlace { offset, path: path.into(), ..CodePlace::default() }
    }

    /// Returns the names of the caller and of the further callers of a site that a stack extends.
    fn extended(code: CodePlace, caller: Option<CodePlace>) -> Option<Vec<String>> {
        let mut site = CallSite { code, caller, ..CallSite::default() };
        let is_same = extend(&mut site, call_site_of_message(MESSAGE).unwrap());
        let places = site.caller.iter().chain(&site.further);
        is_same.then(|| places.map(|one| String::from_utf8_lossy(one.file_name()).into_owned()).collect())
    }

    #[test]
    fn stack_that_begins_where_the_kernel_noted_the_call_extends_it() {
        let socket = || place("/usr/lib/libc.so.6", 0x1234);
        let callers = Some(vec!["liba.so.1".to_owned(), "a".to_owned()]);
        assert_eq!(extended(socket(), None), callers);
        assert_eq!(extended(socket(), Some(place("/usr/lib/liba.so.1", 0x20))), callers);
        assert_eq!(extended(socket(), Some(place("/usr/lib/liba.so.1", 0x28))), None, "another caller");
        assert_eq!(extended(place("/usr/lib/libc.so.6", 0x1235), None), None, "another place");
        assert_eq!(extended(place("/usr/lib/libd.so.6", 0x1234), None), None, "another file");
    }

    #[test]
    fn message_without_a_stack_has_no_place() {
        assert_eq!(call_site_of_message(b"Process 7 (a) of user 0 dumped core."), None);
        assert_eq!(call_site_of_message(b"\xff\n#0 x"), None);
    }
}
