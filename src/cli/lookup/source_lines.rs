//! Reads the lines of unit files that decide, with the rights of the caller, so that an answer can point into them.

use crate::cli::views::answer::Answer;
use crate::diagnosis::Diagnosis;
use crate::policy::SourceLine;
use crate::unit_files::rooted::RootedTree;
use std::collections::BTreeMap;
use std::path::Path;

/// Adds the deciding lines to the answer of a diagnosis, from the files below a root. A file that the caller may not
/// read, or that changed, gives none.
pub(crate) fn add_source_lines(answer: &mut Answer, diagnosis: &Diagnosis, root: &Path) {
    let tree = RootedTree::new(root);
    let mut files: BTreeMap<&Path, Option<Vec<u8>>> = BTreeMap::new();
    for (denial, finding) in answer.denials.iter_mut().zip(&diagnosis.findings) {
        for (view, cause) in denial.cause.directives.iter_mut().zip(finding.cause.directives()) {
            let Some(origin) = &cause.origin else { continue };
            let contents = files.entry(&origin.path).or_insert_with(|| tree.read(&origin.path).ok());
            view.source = contents.as_deref().and_then(|contents| SourceLine::find_cause(contents, cause));
        }
    }
}
