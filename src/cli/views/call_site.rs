//! The view of a call site: the code that made a denied call, and what called it.

use crate::audit::text::escape;
use crate::host::call_site_names::{NamedCallSite, NamedPlace};
use serde::Serialize;

/// Where in its code a process made a denied call.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CallSiteView {
    /// The place of the call itself, mostly in libc.
    pub code: PlaceView,
    /// The place that called the function with the call; null if nothing shows for certain which place that is.
    pub caller: Option<PlaceView>,
    /// The places from which the caller was called, the nearest first, as far as the stack of a core dump shows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further_callers: Vec<PlaceView>,
    /// Whether the caller is the program's own code.
    #[serde(skip)]
    is_own: bool,
}

/// A place in the code of a file.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PlaceView {
    /// The file's path in the mount namespace of the process, escaped.
    pub file: String,
    /// The path itself.
    #[serde(skip)]
    path: Vec<u8>,
    /// The id of the file's build, in hex.
    pub build_id: Option<String>,
    /// The offset in the file behind the instruction, in hex; null if it is unknown.
    pub offset: Option<String>,
    /// The function, if the file names it.
    pub function: Option<String>,
    /// The package of the file, if a package has it and the page shows it.
    pub package: Option<String>,
    /// Whether the file was not read, since a program of another user serves it.
    #[serde(skip)]
    is_served_by_user: bool,
}

impl CallSiteView {
    /// Makes the view of a call site of an executable.
    pub(crate) fn new(site: &NamedCallSite, exe: &[u8]) -> Self {
        // The stack of a core dump has names of files alone.
        let is_exe = |path: &[u8]| {
            path == exe || (!path.contains(&b'/') && exe.rsplit(|byte| *byte == b'/').next() == Some(path))
        };
        let is_own = site.caller.as_ref().is_some_and(|caller| is_exe(&caller.place.path));
        Self {
            code: PlaceView::new(&site.code),
            caller: site.caller.as_ref().map(PlaceView::new),
            further_callers: site.further.iter().map(PlaceView::new).collect(),
            is_own,
        }
    }

    /// Returns the places, with the caller first.
    pub(crate) fn places(&mut self) -> impl Iterator<Item = &mut PlaceView> {
        self.caller.iter_mut().chain([&mut self.code]).chain(&mut self.further_callers)
    }

    /// Returns `called by libuv.so.1 (package libuv1), function uv_fs_chown`; `None` if the caller is unknown.
    pub(super) fn describe_caller(&self) -> Option<String> {
        let caller = self.caller.as_ref()?;
        let function = caller.describe_function();
        Some(if self.is_own {
            format!("called by the program itself{function}")
        } else {
            format!("called by {}{function}", caller.name())
        })
    }

    /// Returns `made in libc.so.6 (package libc6), function fchown`, and the caller.
    pub(super) fn describe(&self) -> String {
        let function = self.code.describe_function();
        let caller = self.describe_caller().map_or_else(String::new, |caller| format!("; {caller}"));
        let further = self.further_callers.iter().map(|place| {
            let function = place.function.as_ref().map_or_else(String::new, |name| format!(" {name}"));
            format!("{}{function}", place.name())
        });
        let further = further.collect::<Vec<String>>().join(", ");
        let further = if further.is_empty() { further } else { format!("; further up the stack: {further}") };
        format!("made in {}{function}{caller}{further}", self.code.name())
    }
}

impl PlaceView {
    fn new(named: &NamedPlace) -> Self {
        let NamedPlace { place, function, is_served_by_user } = named;
        Self {
            file: escape(&place.path),
            path: place.path.clone(),
            build_id: (!place.build_id.is_empty()).then(|| place.build_id_words()),
            offset: (place.offset > 0).then(|| format!("{:#x}", place.offset)),
            function: function.as_ref().map(|name| escape(name.as_bytes())),
            package: None,
            is_served_by_user: *is_served_by_user,
        }
    }

    /// Returns `, function NAME`; nothing if the file does not name it.
    fn describe_function(&self) -> String {
        match &self.function {
            Some(name) => format!(", function {name}"),
            None if self.is_served_by_user => {
                ", function unknown: a program of another user serves the file (FUSE)".to_owned()
            }
            None => String::new(),
        }
    }

    /// The file's path, as the kernel noted it.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Adds the package of the file.
    pub(crate) fn set_package(&mut self, name: Option<&str>) {
        self.package = name.map(|name| escape(name.as_bytes()));
    }

    /// Returns the file's name, and its package.
    fn name(&self) -> String {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        let package = self.package.as_ref().map_or_else(String::new, |package| format!(" (package {package})"));
        format!("{name}{package}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::CodePlace;

    fn named(path: &str, function: Option<&str>) -> NamedPlace {
        let place = CodePlace { offset: 0x1f, build_id: vec![0xab], path: path.into(), ..CodePlace::default() };
        NamedPlace { place, function: function.map(Into::into), is_served_by_user: false }
    }

    /// The view of a call in libc, with the packages of the caller and of libc.
    fn view(caller: Option<NamedPlace>, package: Option<&str>) -> CallSiteView {
        let code = named("/usr/lib/libc.so.6", Some("fchown"));
        let mut view = CallSiteView::new(&NamedCallSite { code, caller, further: Vec::new() }, b"/usr/bin/node");
        let has_caller = view.caller.is_some();
        for (place, package) in view.places().zip([package, Some("libc6")].into_iter().skip((!has_caller).into())) {
            place.set_package(package);
        }
        view
    }

    #[test]
    fn caller_is_the_program_itself_or_a_library() {
        let library = view(Some(named("/usr/lib/libuv.so.1.0.0", Some("uv_fs_chown"))), Some("libuv1"));
        assert_eq!(
            library.describe(),
            "made in libc.so.6 (package libc6), function fchown; called by libuv.so.1.0.0 (package libuv1), function \
             uv_fs_chown"
        );
        let own = view(Some(named("/usr/bin/node", None)), Some("nodejs"));
        assert_eq!(own.describe_caller().as_deref(), Some("called by the program itself"));
        assert_eq!(view(None, None).describe(), "made in libc.so.6 (package libc6), function fchown");
        let told = named("node", Some("main"));
        let site =
            NamedCallSite { code: named("libc.so.6", Some("fchown")), caller: Some(told.clone()), further: vec![told] };
        assert_eq!(
            CallSiteView::new(&site, b"/usr/bin/node").describe(),
            "made in libc.so.6, function fchown; called by the program itself, function main; further up the stack: node main"
        );
        let hostile = view(Some(named("/tmp/\u{1b}[31m", Some("\u{1b}x"))), Some("\u{1b}p"));
        assert!(!hostile.describe().contains('\u{1b}'), "{}", hostile.describe());
    }
}
