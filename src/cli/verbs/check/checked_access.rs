//! Whether accesses that failed would fail again.

use super::checked_verdict::CheckedVerdict;
use crate::cli::terminal::page::{BAD, GOOD, PLACE, Page, WARN, styled};
use crate::diagnosis::{find_undecided, find_withholding};
use crate::incidents::{AccessDenial, Incident, name_access};
use crate::policy;
use crate::policy::Policy;
use serde::Serialize;
use std::collections::BTreeSet;

/// The verdict for an access.
#[derive(Debug, Serialize)]
pub(super) struct CheckedAccessView {
    /// The call that failed.
    call: String,
    /// What it could not reach, in a few words.
    access: String,
    /// `pass`, `denied` or `unknown`.
    verdict: CheckedVerdict,
    /// The directives that withhold it, or may, with file and line if known.
    by: Vec<String>,
}

impl CheckedAccessView {
    /// Judges each access once, whatever program made it.
    pub(super) fn list(
        incidents: &[Incident],
        policy: &Policy,
        place: impl Fn(&policy::DirectiveCause) -> String,
    ) -> Vec<Self> {
        let denials: BTreeSet<&AccessDenial> = incidents.iter().filter_map(Incident::access).collect();
        let view = |denial: &AccessDenial| {
            let (certain, undecided) = (find_withholding(denial, policy), find_undecided(denial, policy));
            let verdict = match (certain.is_empty(), undecided.is_empty()) {
                (_, false) => CheckedVerdict::Unknown,
                (true, true) => CheckedVerdict::Pass,
                (false, true) => CheckedVerdict::Denied,
            };
            let by: Vec<String> = certain.iter().chain(&undecided).map(&place).collect();
            Self { call: denial.call.to_string(), access: name_access(&denial.access), verdict, by }
        };
        denials.into_iter().map(view).collect()
    }

    /// Whether the access would not fail again.
    pub(super) fn passes(&self) -> bool {
        self.verdict == CheckedVerdict::Pass
    }

    /// Adds its lines to the page.
    pub(super) fn add_to(&self, page: &mut Page) {
        let Self { call, access, verdict, by } = self;
        let (style, words) = match verdict {
            CheckedVerdict::Pass => (GOOD, "passes"),
            CheckedVerdict::Unknown => (WARN, "cannot be judged: the value of a specifier is unknown"),
            CheckedVerdict::Denied | CheckedVerdict::Depends => (BAD, "is denied"),
        };
        page.line(format_args!("  {call} ({access}) {}", styled(style, words)));
        for by in by {
            page.line(format_args!("    {}", styled(PLACE, by)));
        }
    }
}

/// Says how many accesses would still fail; nothing if none is known.
pub(super) fn conclude_accesses(accesses: &[CheckedAccessView]) -> Option<String> {
    let count = |verdict| accesses.iter().filter(|access| access.verdict == verdict).count();
    let (denied, unknown) = (count(CheckedVerdict::Denied), count(CheckedVerdict::Unknown));
    match (accesses.len(), denied, unknown) {
        (0, ..) => None,
        (1, 0, 0) => Some("the only access passes".to_owned()),
        (1, 1, _) => Some("the only access would be denied".to_owned()),
        (1, ..) => Some("the only access cannot be judged".to_owned()),
        (all, 0, 0) => Some(format!("all of {all} accesses pass")),
        (all, denied, 0) => Some(format!("{denied} of {all} accesses would be denied")),
        (all, 0, unknown) => Some(format!("{unknown} of {all} accesses cannot be judged")),
        (all, denied, unknown) => {
            Some(format!("{denied} of {all} accesses would be denied, {unknown} cannot be judged"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CheckedVerdict::{Denied, Pass, Unknown};
    use super::*;
    use crate::cli::verbs::check::added_lines::describe_origin;
    use crate::incidents::{Access, AccessPath, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::{Arch, Call, Groups};
    use std::path::Path;

    /// Judges accesses under these lines of a unit.
    fn judge(lines: &str, accesses: &[(&str, Access)]) -> Vec<CheckedAccessView> {
        let incident = |(call, access): &(&str, Access)| Incident {
            key: IncidentKey {
                unit: None,
                event: IncidentEvent::Access(AccessDenial {
                    call: Call::named(Arch::X86_64, call),
                    errno: 1,
                    access: access.clone(),
                }),
                exe: Vec::new(),
                source: SightingSource::Tap { errno: 1 },
            },
            rung: None,
            count: 1,
            first: Moment::Unknown,
            last: Moment::Unknown,
            sample: Sample::default(),
        };
        let incidents: Vec<Incident> = accesses.iter().map(incident).collect();
        let file = UnitFile::parse(Path::new("/x.service"), format!("[Service]\n{lines}\n").as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let policy = Policy::new(settings, &Groups::embedded());
        CheckedAccessView::list(&incidents, &policy, |cause| describe_origin(cause, &[]))
    }

    fn page(accesses: &[CheckedAccessView]) -> String {
        let mut page = Page::default();
        for access in accesses {
            access.add_to(&mut page);
        }
        page.finish()
    }

    #[test]
    fn failed_access_is_judged_once_by_the_settings() {
        let (memory, family) = (("mmap", Access::ExecutableMemory), ("socket", Access::AddressFamily(16)));
        let accesses = [memory.clone(), memory, family];
        let denied = judge("MemoryDenyWriteExecute=yes", &accesses);
        assert_eq!(denied.iter().map(|access| access.verdict).collect::<Vec<_>>(), [Denied, Pass]);
        assert_eq!(conclude_accesses(&denied).as_deref(), Some("1 of 2 accesses would be denied"));
        assert!(page(&denied).contains("/x.service:2"), "{}", page(&denied));
        let passing = judge("MemoryDenyWriteExecute=no", &accesses);
        assert!(passing.iter().all(CheckedAccessView::passes));
        assert_eq!(conclude_accesses(&passing).as_deref(), Some("all of 2 accesses pass"));
    }

    #[test]
    fn access_whose_path_a_specifier_may_name_cannot_be_judged() {
        let write = || ("openat", Access::ReadOnlyPath(AccessPath::new(b"/srv/x/f")));
        let check = |lines: &str| judge(lines, &[write()]);
        let unknown = check("ReadOnlyPaths=/srv/%m");
        assert_eq!((unknown[0].verdict, unknown[0].passes()), (Unknown, false));
        assert_eq!(conclude_accesses(&unknown).as_deref(), Some("the only access cannot be judged"));
        assert_eq!(unknown[0].by, ["ReadOnlyPaths= at /x.service:2"]);
        assert!(page(&unknown).contains("cannot be judged: the value of a specifier is unknown"), "{}", page(&unknown));
        for (lines, expected) in [
            ("ProtectSystem=strict\nReadWritePaths=/srv/%m", Unknown),
            ("ProtectSystem=strict\nReadWritePaths=/opt/%m", Denied),
            ("ReadOnlyPaths=/opt/%m", Pass),
        ] {
            assert_eq!(check(lines)[0].verdict, expected, "{lines}");
        }
        let both =
            judge("ReadOnlyPaths=/srv/%m\nMemoryDenyWriteExecute=yes", &[write(), ("mmap", Access::ExecutableMemory)]);
        let conclusion = conclude_accesses(&both);
        assert_eq!(conclusion.as_deref(), Some("1 of 2 accesses would be denied, 1 cannot be judged"));
    }
}
