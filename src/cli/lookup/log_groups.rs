//! The system call groups for the answer from a log: those of a listing that the user names, or this machine's.

use crate::audit::Note;
use crate::audit::text::shown_path;
use crate::host::log_machine::GroupChoice;
use crate::systemd::syscall_groups;
use crate::systemd::syscall_groups::groups_note;
use anyhow::Context as _;
use std::path::Path;

/// Loads the groups of `--groups`, or those of this machine. Returns a note if they may be wrong.
///
/// # Errors
/// The listing cannot be read.
pub(crate) fn load_groups(listing: Option<&Path>) -> anyhow::Result<(GroupChoice, Option<Note>)> {
    let Some(listing) = listing else {
        let loaded = syscall_groups::load();
        let note = groups_note(&loaded);
        return Ok((GroupChoice::Local(loaded.groups), note));
    };
    let cannot = || format!("cannot read groups from {}", shown_path(listing));
    let groups = syscall_groups::from_listing(listing).with_context(cannot)?;
    let note = groups.missing_part().map(|why| {
        let text = format!(
            "{} has only a part of the groups ({why}), so answers that depend on groups may be wrong; \
            'systemd-analyze --no-pager syscall-filter' lists all",
            shown_path(listing)
        );
        Note::new("groups-partial", text)
    });
    Ok((GroupChoice::Listed(groups), note))
}
