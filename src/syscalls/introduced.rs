//! Names that newer versions of systemd know and older ones do not.
//!
//! systemd ignores a name that it does not know. The names are those of the listings of 252 and 262
//! (`systemd-analyze syscall-filter`); when each came between the two is not known.

/// The oldest version whose names are known.
pub(crate) const OLDEST: u32 = 252;

/// The version that has all of these names.
pub(crate) const NEWEST: u32 = 262;

/// The calls and the group that 262 lists and 252 does not.
const NEW_NAMES: &str = "@sandbox breakpoint cachestat fchroot file_getattr file_setattr fstatat get_tls getxattrat \
            listmount listns listxattrat llseek lsm_get_self_attr lsm_list_modules lsm_set_self_attr mseal newfstat \
            open_tree_attr removexattrat rseq_slice_yield setxattrat statmount uprobe usr26 usr32";

/// Whether a version of systemd may not know a name that newer ones know.
pub(crate) fn may_be_unknown(name: &str, version: u32) -> bool {
    version < NEWEST && NEW_NAMES.split_whitespace().any(|new| new == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Groups;
    use crate::syscalls::groups::GroupSource;
    use std::collections::BTreeSet;

    #[test]
    fn new_names_are_those_that_the_newest_listing_has_and_the_oldest_lacks() {
        let listing = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/groups-252.txt");
        let listing = std::fs::read_to_string(listing).unwrap();
        let old = Groups::parse(&listing, GroupSource::Host("252".into())).unwrap();
        let new = Groups::embedded();
        let names = |groups: &Groups| -> BTreeSet<String> {
            let calls = groups.names().flat_map(|group| groups.calls(group).unwrap().iter().map(ToString::to_string));
            calls.chain(groups.names().map(ToOwned::to_owned)).collect()
        };
        let (old, new) = (names(&old), names(&new));
        let added: BTreeSet<&str> = new.difference(&old).map(String::as_str).collect();
        assert_eq!(NEW_NAMES.split_whitespace().collect::<BTreeSet<_>>(), added);
        assert_eq!(old.difference(&new).count(), 0, "no name was removed");
        let unknown = |name| [OLDEST, 257, NEWEST].map(|version| may_be_unknown(name, version));
        assert_eq!((unknown("mseal"), unknown("openat")), ([true, true, false], [false; 3]));
    }
}
