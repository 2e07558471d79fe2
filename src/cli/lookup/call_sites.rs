//! Adds where denied calls were made, with the names of functions and packages, to an answer.

use crate::cli::args::Common;
use crate::cli::terminal::output::Detail;
use crate::cli::views::answer::{Answer, PlaceView};
use crate::cli::views::brief_page::find_named_caller;
use crate::cli::views::call_site::CallSiteView;
use crate::diagnosis::Diagnosis;
use crate::host::call_site_names::name_call_sites;
use crate::host::packages::find_packages;
use crate::unit_files::rooted::RootedTree;
use std::path::Path;

/// Which packages an answer shows. Their lookup takes longer than everything else about call sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShownPackages {
    /// Those of all places.
    All,
    /// That of the caller which the default page names, if it names one.
    Caller,
    /// None: the files are another machine's.
    None,
}

impl ShownPackages {
    /// Returns what a page of these options shows.
    pub(crate) fn from_options(common: &Common) -> Self {
        if common.is_json() || Detail::from_options(common) == Detail::Full { Self::All } else { Self::Caller }
    }
}

/// Adds the call sites to the answer of a diagnosis, by the files below a root.
pub(crate) fn add_call_sites(answer: &mut Answer, diagnosis: &Diagnosis, root: &Path, packages: ShownPackages) {
    let sites: Vec<_> = diagnosis.findings.iter().map(|one| one.incident.sample.call_site.as_deref()).collect();
    for ((denial, finding), site) in
        answer.denials.iter_mut().zip(&diagnosis.findings).zip(name_call_sites(&sites, root))
    {
        denial.call_site = site.map(|site| CallSiteView::new(&site, &finding.incident.key.exe));
    }
    add_packages(answer, root, packages);
}

fn add_packages(answer: &mut Answer, root: &Path, packages: ShownPackages) {
    let named = match packages {
        ShownPackages::None => return,
        ShownPackages::All => None,
        ShownPackages::Caller => match find_named_caller(answer) {
            Some(caller) => Some(caller.path().to_vec()),
            None => return,
        },
    };
    let is_shown = |place: &&mut PlaceView| named.as_ref().is_none_or(|path| path == place.path());
    let sites = answer.denials.iter_mut().filter_map(|denial| denial.call_site.as_mut());
    let mut places: Vec<&mut PlaceView> = sites.flat_map(CallSiteView::places).filter(is_shown).collect();
    let mut paths: Vec<Vec<u8>> = places.iter().map(|place| place.path().to_vec()).collect();
    paths.sort_unstable();
    paths.dedup();
    if paths.is_empty() {
        return;
    }
    let wanted: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    let found = find_packages(RootedTree::new(root), &wanted);
    for place in &mut places {
        let index = paths.binary_search_by(|path| path.as_slice().cmp(place.path())).ok();
        place.set_package(index.and_then(|index| found.get(index)?.as_deref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::diagnosis::diagnose;
    use crate::incidents::local_time::LocalTime;
    use crate::incidents::{
        CallSite, CodePlace, Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource,
    };
    use crate::syscalls::{Arch, Call, Groups};
    use jiff::tz::TimeZone;
    use std::fs;

    /// The packages that an answer about killed calls shows: of the callers, and of the calls' own places.
    fn find_shown(calls: &[&str], packages: ShownPackages) -> Vec<[Option<String>; 2]> {
        let root = tempfile::tempdir().unwrap();
        let lists = root.path().join("var/lib/dpkg/info");
        fs::create_dir_all(&lists).unwrap();
        fs::write(lists.join("libc6:amd64.list"), "/lib/libc.so.6\n").unwrap();
        fs::write(lists.join("libuv1.list"), "/usr/lib/libuv.so.1\n").unwrap();
        let place = |path: &str| CodePlace { path: path.into(), ..CodePlace::default() };
        let caller = Some(place("/usr/lib/libuv.so.1"));
        let site = CallSite { code: place("/usr/lib/libc.so.6"), caller, ..CallSite::default() };
        let incident = |call: &&str| Incident {
            key: IncidentKey {
                unit: None,
                event: IncidentEvent::Denial(Denial {
                    call: Call::named(Arch::X86_64, call),
                    action: Action::KillProcess,
                }),
                exe: b"/usr/bin/node".to_vec(),
                source: SightingSource::Audit,
            },
            rung: None,
            count: 1,
            first: Moment::At(1),
            last: Moment::At(2),
            sample: Sample { call_site: Some(Box::new(site.clone())), ..Sample::default() },
        };
        let groups = Groups::embedded();
        let diagnosis = diagnose(calls.iter().map(incident).collect(), None, &groups);
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        let mut answer = Answer::new(None, &diagnosis, None, &groups, &clock, Vec::new());
        add_call_sites(&mut answer, &diagnosis, root.path(), packages);
        let sites = answer.denials.iter().map(|denial| denial.call_site.as_ref().unwrap());
        sites.map(|site| [site.caller.as_ref().unwrap().package.clone(), site.code.package.clone()]).collect()
    }

    #[test]
    fn packages_are_looked_up_where_the_page_shows_them() {
        let (libuv, libc) = (Some("libuv1".to_owned()), Some("libc6".to_owned()));
        assert_eq!(find_shown(&["fchown"], ShownPackages::All), [[libuv.clone(), libc.clone()]]);
        assert_eq!(find_shown(&["fchown"], ShownPackages::Caller), [[libuv.clone(), None]]);
        assert_eq!(find_shown(&["fchown", "mount"], ShownPackages::Caller), [[None, None], [None, None]]);
        assert_eq!(find_shown(&["fchown", "mount"], ShownPackages::All), vec![[libuv, libc]; 2]);
    }
}
