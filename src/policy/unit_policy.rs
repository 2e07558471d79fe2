//! A unit's whole policy: the settings of its files or of its manager, and the context in which the unit runs.

use super::call_list::{CallList, Mode};
use super::directive::{Directive, Rule, Targets};
use super::families::AddressFamilies;
use super::manager_context::{ManagerContext, Mdwe, filters_blocked_abis, systemd_version};
use super::sandbox::unit_sandbox::UnitSandbox;
use super::settings::Settings;
use super::syscall_filter::SyscallFilter;
use super::unit_file::FileNote;
use crate::syscalls::{Abi, CallNames, Groups};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// A unit's policy: its settings, and the managers, systemd and kernel that also decide what its processes may do.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about systemd or the kernel")]
pub struct Policy {
    /// The settings in its files.
    pub settings: Settings,
    /// The effective `SystemCallFilter=`; `None` if there is no filter.
    pub filter: Option<SyscallFilter>,
    pub(super) native: Abi,
    pub(super) families: Option<AddressFamilies>,
    pub(super) families_notes: Vec<FileNote>,
    pub(super) log: Option<CallList>,
    /// The rules of the directives that are switched on.
    pub(super) rules: Vec<(Directive, &'static Rule)>,
    /// The groups that the rules of directives name.
    pub(super) groups: BTreeMap<&'static str, CallNames>,
    pub(super) context: ManagerContext,
    pub(super) mdwe: Mdwe,
    kills_processes: bool,
    /// Whether systemd may have other members in its groups than those used here.
    pub(super) has_other_groups: bool,
    /// Whether it is known which calls libseccomp knows.
    pub(super) knows_libseccomp: bool,
    pub(super) filters_blocked_abis: bool,
    pub(super) systemd: Option<u32>,
    /// Merged once it is needed.
    pub(super) sandbox: OnceLock<UnitSandbox>,
}

impl Policy {
    /// The policy of a unit under the systemd of these groups. No setting blocks that systemd's native ABI.
    #[must_use]
    pub fn new(settings: Settings, groups: &Groups) -> Self {
        let rules = settings.active_rules();
        let named = rules.iter().filter_map(|(_, rule)| match rule.targets {
            Targets::Group(name) => Some((name, groups.calls(name)?.clone())),
            Targets::Calls(_) => None,
        });
        let (families, families_notes) = AddressFamilies::from_settings(&settings, groups);
        Self {
            filter: SyscallFilter::simulate(settings.assignments(), groups),
            families,
            families_notes,
            log: settings.log_list(groups),
            groups: named.collect(),
            rules,
            mdwe: ManagerContext::default().mdwe(groups),
            kills_processes: ManagerContext::default().kills_processes(groups),
            filters_blocked_abis: filters_blocked_abis(groups),
            systemd: systemd_version(groups),
            sandbox: OnceLock::new(),
            context: ManagerContext::default(),
            has_other_groups: groups.are_of_another_systemd(),
            knows_libseccomp: groups.knows_libseccomp(),
            native: groups.native(),
            settings,
        }
    }

    /// The policy under these managers and this kernel.
    #[must_use]
    pub fn with_context(mut self, context: ManagerContext, groups: &Groups) -> Self {
        self.mdwe = context.mdwe(groups);
        self.kills_processes = context.kills_processes(groups);
        self.context = context;
        self.sandbox = OnceLock::new();
        self
    }

    /// The policy on a machine that lacks these paths, too.
    #[must_use]
    pub(crate) fn with_absent_paths(mut self, paths: impl IntoIterator<Item = Box<str>>) -> Self {
        self.context.absent_paths.extend(paths);
        self.sandbox = OnceLock::new();
        self
    }

    /// The policy on a machine that has these paths, too.
    #[must_use]
    pub(crate) fn with_present_paths(mut self, paths: impl IntoIterator<Item = Box<str>>) -> Self {
        self.context.present_paths.extend(paths);
        self
    }

    /// Whether the machine is known to have a path.
    #[must_use]
    pub(crate) fn has_path(&self, path: &[u8]) -> bool {
        str::from_utf8(path).is_ok_and(|path| self.context.present_paths.contains(path))
    }

    /// Whether the machine is known to lack a path.
    #[must_use]
    pub(crate) fn lacks_path(&self, path: &[u8]) -> bool {
        std::str::from_utf8(path).is_ok_and(|path| self.context.absent_paths.contains(path))
    }

    /// Returns what the unit's manager and the kernel add.
    #[must_use]
    pub(crate) fn context(&self) -> &ManagerContext {
        &self.context
    }

    /// The policy under a kernel of this version, unless the kernel is known already.
    #[must_use]
    pub(crate) fn with_kernel(self, kernel: Option<(u32, u32)>, groups: &Groups) -> Self {
        let kernel = self.context.kernel.or(kernel);
        let context = ManagerContext { kernel, ..self.context.clone() };
        self.with_context(context, groups)
    }

    /// The policy with the manager's filter in place of the files' filter. Pass a filter from
    /// [`SyscallFilter::reconciled`] or, if there is none, from [`SyscallFilter::from_manager`].
    #[must_use]
    pub fn with_filter(mut self, filter: Option<SyscallFilter>) -> Self {
        self.filter = filter;
        self
    }

    /// The policy with one more drop-in, inserted by its file name. The proof of a remedy uses this policy. Calls that
    /// a reconciled filter shows as unknown to libseccomp stay unknown.
    #[must_use]
    pub fn with_dropin(&self, path: &Path, content: &[u8], groups: &Groups) -> Self {
        self.with_settings(self.settings.with_dropin(path, content), groups)
    }

    /// The policy with more lines at the end of the unit file, as of a transient unit that is started with more
    /// properties.
    #[must_use]
    pub fn with_fragment_lines(&self, content: &[u8], groups: &Groups) -> Self {
        self.with_settings(self.settings.with_fragment_lines(content), groups)
    }

    /// The policy without some of its drop-ins: the policy before these were written.
    #[must_use]
    pub fn without_dropins(&self, is_removed: impl Fn(&Path) -> bool, groups: &Groups) -> Self {
        self.with_settings(self.settings.without_dropins(is_removed), groups)
    }

    /// The policy after the next reload: the filter comes from the files, not from the manager.
    #[must_use]
    pub fn after_reload(&self, groups: &Groups) -> Self {
        self.with_settings(self.settings.clone(), groups)
    }

    fn with_settings(&self, settings: Settings, groups: &Groups) -> Self {
        let mut policy = Self::new(settings, groups).with_context(self.context.clone(), groups);
        if let (Some(after), Some(before)) = (&mut policy.filter, &self.filter) {
            after.remove_unresolved_in(before);
        }
        policy
    }

    /// The mode of `SystemCallLog=` and the calls on its list; no calls if the directive is not set.
    #[must_use]
    pub fn logged_calls(&self) -> (Mode, Vec<&str>) {
        let listed = self.log.iter().flat_map(|list| list.entries.keys().map(AsRef::as_ref)).collect();
        (self.log.as_ref().map_or(Mode::Deny, |list| list.mode), listed)
    }

    /// Whether it is certain that `SystemCallFilter=` kills the process, and not the thread alone as before systemd 243.
    #[must_use]
    pub(crate) fn kills_processes(&self) -> bool {
        self.kills_processes
    }

    /// The machine's native ABI, which no setting blocks.
    #[must_use]
    pub fn native(&self) -> Abi {
        self.native
    }

    /// The notes about lines that systemd ignores.
    pub fn notes(&self) -> impl Iterator<Item = &FileNote> {
        let filter = self.filter.iter().flat_map(SyscallFilter::notes);
        let log = self.log.iter().flat_map(|list| &list.notes);
        self.settings.notes().iter().chain(&self.families_notes).chain(filter).chain(log)
    }

    /// The effective `RestrictAddressFamilies=`, if it is set.
    #[must_use]
    pub fn families(&self) -> Option<&AddressFamilies> {
        self.families.as_ref()
    }
}
