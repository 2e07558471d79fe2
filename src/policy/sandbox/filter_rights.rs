//! What a filter costs a unit's processes besides calls: systemd sets `no_new_privs` for it, or drops `CAP_SETUID`
//! (`context_has_seccomp`, `seccomp_allows_drop_privileges` and `exec_invoke` in `exec-invoke.c`).

use super::implied_mounts::is_on;
use super::sandbox_settings::{SandboxSettings, SandboxWord};
use super::withheld::{Withheld, withheld};
use crate::policy::call_list::Mode;
use crate::policy::directive::Directive;
use crate::policy::families::AddressFamilies;
use crate::policy::lists::Namespaces;
use crate::policy::unit_policy::Policy;

/// Since this systemd a filter for another user than root needs no `no_new_privs`: systemd keeps the capabilities that
/// loading a filter requires.
const KEEPS_RIGHTS_SINCE: u32 = 255;

/// The calls by which systemd drops these capabilities after it has loaded the filter.
const DROPPING_RIGHTS: [&str; 3] = ["capget", "capset", "prctl"];

impl Policy {
    /// Returns the words by which set-user-ID programs give no rights.
    pub(super) fn no_new_privileges(&self, sandbox: &SandboxSettings) -> Vec<(SandboxWord, Withheld)> {
        const TAKES: &str = "takes the rights of set-ID files from ";
        let own = sandbox.word(Directive::NoNewPrivileges).filter(|(value, _)| *value != "no");
        let own = own.map(|(_, word)| (word.clone(), withheld(TAKES, "")));
        let dynamic = is_on(&self.settings, Directive::DynamicUser);
        let dynamic = dynamic.map(|word| (word, withheld(TAKES, ": it implies NoNewPrivileges=yes")));
        let filter = self.reason_for_no_new_privileges(sandbox).and_then(|why| {
            let word = self.find_filter()?;
            Some((word, withheld(TAKES, why)))
        });
        own.into_iter().chain(dynamic).chain(filter).collect()
    }

    /// Returns why a filter brings `no_new_privs` here; `None` if it does not.
    fn reason_for_no_new_privileges(&self, sandbox: &SandboxSettings) -> Option<&'static str> {
        if sandbox.is_of_user_manager {
            return Some(": systemd sets no_new_privs for a filter of a user's unit");
        }
        let user = self.settings.user().filter(|user| !matches!(*user, "root" | "0"));
        let keeps_rights = self.settings.program().has_ambient_capability("CAP_SYS_ADMIN");
        match (self.systemd, user) {
            _ if keeps_rights => None,
            (_, None) => None,
            (None, Some(_)) => {
                Some(": before systemd 255, which is assumed, a filter with a User= other than root sets no_new_privs")
            }
            (Some(systemd), Some(_)) if systemd < KEEPS_RIGHTS_SINCE => {
                Some(": before systemd 255 a filter with a User= other than root sets no_new_privs")
            }
            (Some(_), Some(_)) => (!self.lets_systemd_drop_rights()).then_some(
                ": systemd sets no_new_privs for a filter that denies capget, capset or prctl, if User= is not root",
            ),
        }
    }

    /// Returns the line of `User=` if systemd drops `CAP_SETUID` for it, and the program cannot get it back. This holds
    /// for `User=root` as well.
    pub(super) fn dropped_setuid(&self, sandbox: &SandboxSettings) -> Option<(SandboxWord, Withheld)> {
        let is_new = self.systemd.is_some_and(|systemd| systemd >= KEEPS_RIGHTS_SINCE);
        let (_, user) = sandbox.word(Directive::User).filter(|(user, _)| !user.is_empty())?;
        let has_no_new_privileges = self.settings.has_no_new_privileges();
        let is_dropped = is_new
            && has_no_new_privileges
            && !sandbox.is_of_user_manager
            && self.lets_systemd_drop_rights()
            && !self.settings.program().has_ambient_capability("CAP_SETUID");
        let after = ": with a filter, systemd drops it for any User=, and NoNewPrivileges=yes keeps it away";
        self.find_filter().filter(|_| is_dropped).map(|_| (user.clone(), withheld("starts without ", after)))
    }

    /// Whether systemd can drop capabilities once the filter is loaded.
    fn lets_systemd_drop_rights(&self) -> bool {
        let filter = self.filter.as_ref().filter(|filter| !filter.entries().is_empty());
        filter.is_none_or(|filter| DROPPING_RIGHTS.iter().all(|call| filter.permits(call)))
    }

    /// Returns the line of a directive that installs a filter.
    fn find_filter(&self) -> Option<SandboxWord> {
        Directive::ALL.iter().find_map(|directive| self.find_filter_of(*directive))
    }

    /// Returns the line of this directive if it installs a filter.
    fn find_filter_of(&self, directive: Directive) -> Option<SandboxWord> {
        let lists = |mode: Mode, is_empty: bool| mode == Mode::Allow || !is_empty;
        let is_set = match directive {
            Directive::RestrictAddressFamilies => self.families().is_some_and(AddressFamilies::restricts),
            Directive::RestrictNamespaces => self.settings.namespaces().is_some_and(Namespaces::restricts),
            Directive::SystemCallArchitectures => !self.settings.architectures().listed.is_empty(),
            Directive::SystemCallLog => self.log.as_ref().is_some_and(|log| lists(log.mode, log.entries.is_empty())),
            Directive::SystemCallFilter => {
                self.filter.as_ref().is_some_and(|filter| lists(filter.mode(), filter.entries().is_empty()))
            }
            switch if switch.is_switch() && !switch.spec().rules.is_empty() => return is_on(&self.settings, switch),
            _ => false,
        };
        let line = self.settings.lines(directive).last().filter(|_| is_set)?;
        Some(SandboxWord { directive, text: "".into(), origin: line.origin.clone() })
    }
}
