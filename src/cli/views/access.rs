//! An access that failed, as data.

use crate::audit::text::escape;
use crate::incidents::{Access, AccessPath, describe_access, name_access};
use serde::Serialize;

/// What an entered call could not reach.
#[derive(Debug, Serialize)]
pub struct AccessView {
    /// The kind, e.g. `read-only-path`.
    pub kind: &'static str,
    /// The path, escaped.
    pub path: Option<String>,
    /// What the kind and the path do not tell, e.g. `char 10:229 rw`.
    pub detail: Option<String>,
    /// What could not be reached, in a few words: the end of the path, the capability.
    pub name: String,
    /// What the sandbox withholds, in words.
    pub words: String,
}

impl AccessView {
    pub(crate) fn new(access: &Access) -> Self {
        Self {
            kind: access.kind(),
            path: access.path().map(AccessPath::as_bytes).map(escape),
            detail: Some(access.detail()).filter(|detail| !detail.is_empty()),
            name: name_access(access),
            words: describe_access(access),
        }
    }
}
