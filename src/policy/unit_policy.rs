//! A unit's whole policy: what its files say, or its manager holds, amid what surrounds it.

use super::call_list::{CallList, Mode};
use super::directive::{Directive, Targets};
use super::families::AddressFamilies;
use super::manager_context::{ManagerContext, Mdwe, filters_blocked_abis, systemd};
use super::settings::Settings;
use super::syscall_filter::SyscallFilter;
use super::unit_file::FileNote;
use crate::syscalls::{Abi, CallNames, Groups};
use std::collections::BTreeMap;
use std::path::Path;

/// A unit's whole seccomp policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What its files say.
    pub settings: Settings,
    /// Its `SystemCallFilter=`.
    pub filter: Option<SyscallFilter>,
    pub(super) native: Abi,
    pub(super) families: Option<AddressFamilies>,
    pub(super) families_notes: Vec<FileNote>,
    pub(super) log: Option<CallList>,
    /// The groups that the rules of directives name.
    pub(super) groups: BTreeMap<&'static str, CallNames>,
    pub(super) surroundings: ManagerContext,
    pub(super) mdwe: Mdwe,
    pub(super) filters_blocked_abis: bool,
    pub(super) systemd: Option<u32>,
}

impl Policy {
    /// The policy of a unit on a machine of the native ABI, which is never blocked as an ABI.
    #[must_use]
    pub fn new(settings: Settings, native: Abi, groups: &Groups) -> Self {
        let named = Directive::rules().filter_map(|(_, rule)| match rule.targets {
            Targets::Group(name) => Some((name, groups.calls(name)?.clone())),
            Targets::Calls(_) => None,
        });
        let (families, families_notes) = AddressFamilies::from_settings(&settings, groups);
        Self {
            filter: SyscallFilter::simulate(settings.assignments(), groups),
            families,
            families_notes,
            log: settings.log(groups),
            groups: named.collect(),
            mdwe: ManagerContext::default().mdwe(groups),
            filters_blocked_abis: filters_blocked_abis(groups),
            systemd: systemd(groups),
            surroundings: ManagerContext::default(),
            native,
            settings,
        }
    }

    /// The policy where more is known than the unit's own settings.
    #[must_use]
    pub fn with_context(mut self, surroundings: ManagerContext, groups: &Groups) -> Self {
        self.mdwe = surroundings.mdwe(groups);
        self.surroundings = surroundings;
        self
    }

    /// The policy with the filter the manager says is in force ([`SyscallFilter::from_manager`], or
    /// better [`SyscallFilter::reconciled`] with it), in place of the files'.
    #[must_use]
    pub fn with_filter(mut self, filter: Option<SyscallFilter>) -> Self {
        self.filter = filter;
        self
    }

    /// The policy with one more drop-in, put where its file name sorts it: what a remedy is proven on.
    /// Where the filter was reconciled, calls that libseccomp did not know stay unknown.
    #[must_use]
    pub fn with_dropin(&self, path: &Path, content: &[u8], groups: &Groups) -> Self {
        self.renewed(self.settings.with_dropin(path, content), groups)
    }

    /// The policy without some of its drop-ins: what it was before they were written.
    #[must_use]
    pub fn without_dropins(&self, gone: impl Fn(&Path) -> bool, groups: &Groups) -> Self {
        self.renewed(self.settings.without_dropins(gone), groups)
    }

    /// The policy as the files have it, whatever is in force: what it will be at the next reload.
    #[must_use]
    pub fn after_reload(&self, groups: &Groups) -> Self {
        self.renewed(self.settings.clone(), groups)
    }

    fn renewed(&self, settings: Settings, groups: &Groups) -> Self {
        let mut policy = Self::new(settings, self.native, groups).with_context(self.surroundings.clone(), groups);
        if let (Some(after), Some(before)) = (&mut policy.filter, &self.filter) {
            after.inherit(before);
        }
        policy
    }

    /// The mode of `SystemCallLog=` and the calls that it lists; none if it is not set.
    #[must_use]
    pub fn logging(&self) -> (Mode, Vec<&str>) {
        let listed = self.log.iter().flat_map(|list| list.entries.keys().map(AsRef::as_ref)).collect();
        (self.log.as_ref().map_or(Mode::Deny, |list| list.mode), listed)
    }

    /// The ABI that is never blocked as one.
    #[must_use]
    pub fn native(&self) -> Abi {
        self.native
    }

    /// Whatever was odd in the files.
    pub fn notes(&self) -> impl Iterator<Item = &FileNote> {
        let filter = self.filter.iter().flat_map(SyscallFilter::notes);
        let log = self.log.iter().flat_map(|list| &list.notes);
        self.settings.notes().iter().chain(&self.families_notes).chain(filter).chain(log)
    }

    /// What `RestrictAddressFamilies=` comes to, if set.
    #[must_use]
    pub fn families(&self) -> Option<&AddressFamilies> {
        self.families.as_ref()
    }
}
