//! Chooses the drop-in of a remedy: a template's, or that of one instance.
//!
//! An instance reads its own drop-ins and its template's. Of two files with the same name it reads only its own
//! (`unit_file_find_dropin_paths` in systemd's `src/shared/dropin.c`).

use super::denied_call::DeniedCall;
use super::situation::Situation;
use crate::policy::DirectiveCause;
use crate::units::UnitName;
use std::path::{Path, PathBuf};

/// Returns the path of the drop-in that lifts these denials, and those with `more` causes. It is the template's, unless a
/// file of the instance alone denies a call, or the instance has a drop-in of harden-why, which hides the template's. Paths
/// of one instance are not opened for the others.
pub(super) fn choose_drop_in(
    situation: &Situation,
    denied: &[DeniedCall<'_>],
    more: &[&DirectiveCause],
    has_paths: bool,
) -> PathBuf {
    let shared = &situation.drop_in;
    let Some(template) = owner(shared).filter(UnitName::is_template) else { return shared.clone() };
    let by = denied.iter().flat_map(|call| call.by).chain(more.iter().copied());
    let deciding = by.filter_map(|cause| cause.origin.as_ref());
    let present = situation.policy.settings.assignments().map(|line| &line.origin);
    let present = present.filter(|origin| origin.path.file_name() == shared.file_name());
    let own = deciding.chain(present).find_map(|origin| find_instance_of(&template, &origin.path));
    let unit = situation.policy.settings.name();
    let this = || (has_paths && unit.template_name().as_ref() == Some(&template)).then(|| unit.clone());
    match (own.or_else(this), shared.parent().and_then(Path::parent), shared.file_name()) {
        (Some(own), Some(dir), Some(name)) => dir.join(format!("{own}.d")).join(name),
        _ => shared.clone(),
    }
}

/// Returns the instance of a template to which alone a unit file or a drop-in belongs.
#[must_use]
pub fn find_instance_of(template: &UnitName, path: &Path) -> Option<UnitName> {
    owner(path).filter(|unit| unit.template_name().as_ref() == Some(template))
}

/// Returns the unit or template to which a unit file or a drop-in belongs.
fn owner(path: &Path) -> Option<UnitName> {
    let of_file = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    let of_dir = || path.parent()?.file_name()?.to_str()?.strip_suffix(".d")?.parse().ok();
    of_dir().or_else(|| of_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, Settings, UnitFile};
    use crate::syscalls::{Abi, Groups};

    const TEMPLATE: &str = "/etc/systemd/system/echo@.service.d/zz-harden-why.conf";
    const INSTANCE: &str = "/etc/systemd/system/echo@web.service.d/zz-harden-why.conf";

    /// Chooses for a denied `uname`, in a unit whose template does not filter it, with these drop-ins.
    fn choose(fragment: &str, dropins: &[(&str, &str)]) -> String {
        let file = |path: &str, line: &str| UnitFile::parse(Path::new(path), format!("[Service]\n{line}\n").as_bytes());
        let dropins = dropins.iter().map(|(path, line)| file(path, line)).collect();
        let fragment = file("/usr/lib/systemd/system/echo@.service", fragment);
        let settings = Settings::new(&"echo@web.service".parse().unwrap(), Some(fragment), dropins);
        let policy = Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64));
        let crate::policy::Verdict::Denied { effect, by, .. } = policy.verdict(Abi::X86_64, "uname") else { panic!() };
        let situation = Situation { policy, drop_in: TEMPLATE.into(), history: None, programs: Vec::new() };
        let denied = [DeniedCall { abi: Abi::X86_64, name: "uname", effect: Some(effect), by: &by, is_nameable: true }];
        assert_eq!(choose_drop_in(&situation, &denied, &[], true), Path::new(INSTANCE), "paths are the instance's own");
        choose_drop_in(&situation, &denied, &[], false).display().to_string()
    }

    #[test]
    fn line_of_the_template_is_lifted_for_the_template() {
        let deny = "SystemCallFilter=~uname";
        assert_eq!(choose(deny, &[]), TEMPLATE);
        assert_eq!(choose("", &[("/etc/systemd/system/echo@.service.d/10.conf", deny)]), TEMPLATE);
        let unrelated = ("/etc/systemd/system/echo@web.service.d/10.conf", "ProtectClock=yes");
        assert_eq!(choose(deny, &[unrelated]), TEMPLATE, "the instance's own line denies another call");
    }

    #[test]
    fn line_of_the_instance_is_lifted_for_the_instance() {
        let deny = "SystemCallFilter=~uname";
        assert_eq!(choose("", &[("/run/systemd/system/echo@web.service.d/10.conf", deny)]), INSTANCE);
    }

    #[test]
    fn present_drop_in_of_the_instance_is_extended() {
        let hides = (INSTANCE, "SystemCallFilter=mount");
        assert_eq!(choose("SystemCallFilter=~uname mount", &[hides]), INSTANCE);
        let shared = (TEMPLATE, "SystemCallFilter=mount");
        assert_eq!(choose("SystemCallFilter=~uname mount", &[shared]), TEMPLATE);
    }
}
