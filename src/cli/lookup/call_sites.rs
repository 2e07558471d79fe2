//! Adds where denied calls were made, with the names of functions and packages, to an answer.

use crate::cli::views::answer::Answer;
use crate::cli::views::call_site::CallSiteView;
use crate::diagnosis::Diagnosis;
use crate::host::call_site_names::name_call_sites;
use std::path::Path;

/// Adds the call sites to the answer of a diagnosis, by the files below a root.
pub(crate) fn add_call_sites(answer: &mut Answer, diagnosis: &Diagnosis, root: &Path) {
    let sites: Vec<_> = diagnosis.findings.iter().map(|one| one.incident.sample.call_site.as_deref()).collect();
    for ((denial, finding), site) in
        answer.denials.iter_mut().zip(&diagnosis.findings).zip(name_call_sites(&sites, root))
    {
        denial.call_site = site.map(|site| CallSiteView::new(&site, &finding.incident.key.exe));
    }
}
