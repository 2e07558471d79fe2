//! The fields that entries in the journal share: the unit, the call, the access.

use super::journal::AlertEntry;
use crate::audit::text;
use crate::incidents::{AccessDenial, CallSite};
use crate::policy::Effect;
use crate::syscalls::{Abi, Call};
use crate::units::{Manager, Unit};

/// How urgent an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Priority {
    Error,
    Warning,
    Notice,
}

/// Starts an entry with its text, its `MESSAGE_ID=`, its priority and its sender.
pub(super) fn start_entry(message: String, id: &'static str, priority: Priority) -> AlertEntry {
    let mut entry = AlertEntry::default();
    entry.push("MESSAGE", message);
    entry.push("MESSAGE_ID", id);
    // The numbers of `syslog(3)`.
    let number = match priority {
        Priority::Error => "3",
        Priority::Warning => "4",
        Priority::Notice => "5",
    };
    entry.push("PRIORITY", number);
    entry.push("SYSLOG_IDENTIFIER", "harden-whyd");
    entry
}

/// Adds the unit, for journalctl and for programs.
pub(super) fn push_unit(entry: &mut AlertEntry, unit: &Unit) {
    match unit.manager {
        Manager::System => entry.push("OBJECT_SYSTEMD_UNIT", unit.name.as_str()),
        Manager::User(uid) => {
            entry.push("OBJECT_SYSTEMD_USER_UNIT", unit.name.as_str());
            entry.push("OBJECT_SYSTEMD_OWNER_UID", uid.to_string());
        }
    }
    entry.push("HARDEN_WHY_UNIT", unit.name.as_str());
    entry.push("HARDEN_WHY_MANAGER", unit.manager.to_string());
}

/// Adds the call and its ABI.
pub(super) fn push_call(entry: &mut AlertEntry, call: &Call) {
    entry.push("HARDEN_WHY_CALL", call_word(call));
    if let Some(number) = call.number() {
        entry.push("HARDEN_WHY_CALL_NUMBER", number.to_string());
    }
    let token = || format!("{:x}", call.arch.0);
    entry.push("HARDEN_WHY_ARCH", call.abi().map(Abi::name).map_or_else(token, str::to_owned));
}

/// Adds what an entered call could not reach.
pub(super) fn push_access(entry: &mut AlertEntry, AccessDenial { errno, access, .. }: &AccessDenial) {
    entry.push("HARDEN_WHY_ERRNO", Effect::Errno(*errno).to_string());
    entry.push("HARDEN_WHY_ACCESS", access.kind());
    if let Some(path) = access.path() {
        entry.push("HARDEN_WHY_PATH", text::escape(path.as_bytes()));
    }
    let detail = access.detail();
    if !detail.is_empty() {
        entry.push("HARDEN_WHY_ACCESS_DETAIL", detail);
    }
}

/// Adds where in its code the process made the call, and what called the function.
pub(super) fn push_call_site(entry: &mut AlertEntry, site: &CallSite) {
    const CODE: [&str; 3] = ["HARDEN_WHY_CODE_FILE", "HARDEN_WHY_CODE_BUILD_ID", "HARDEN_WHY_CODE_OFFSET"];
    const CALLER: [&str; 3] = ["HARDEN_WHY_CALLER_FILE", "HARDEN_WHY_CALLER_BUILD_ID", "HARDEN_WHY_CALLER_OFFSET"];
    for ([file, build_id, offset], place) in [(CODE, Some(&site.code)), (CALLER, site.caller.as_ref())] {
        let Some(place) = place else { continue };
        entry.push(file, text::escape(&place.path));
        if !place.build_id.is_empty() {
            entry.push(build_id, place.build_id_words());
        }
        entry.push(offset, format!("{:#x}", place.offset));
    }
}

/// Returns the call's name, or `number 9999` if it has none; the number is signed like the kernel's `syscall=`.
pub(super) fn call_word(call: &Call) -> String {
    match (call.name(), call.number()) {
        (Some(name), _) => text::escape(name.as_bytes()),
        (None, Some(number)) => format!("number {}", number.cast_signed()),
        (None, None) => "unknown".to_owned(),
    }
}
