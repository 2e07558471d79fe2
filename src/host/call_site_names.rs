//! Names the functions of call sites, from the files of this machine.
//!
//! A file counts only if it is the noted one: the one with the noted id of its build or, without an id, the noted inode. An
//! update replaces files, and the code of another build has other functions at the same place.

use super::program_files::limited_file::{LimitedFile, ReadLimits};
use crate::incidents::{CallSite, CodePlace};
use crate::kernel::fuse_guard::is_served_by_user;
use crate::programs::{ElfFile, FileParts as _, find_function};
use crate::unit_files::rooted::RootedTree;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;

/// The limits on the places that are named at a time, and on the bytes read for that. The time grows with the bytes.
const MOST_PLACES: usize = 64;
const MOST_BYTES: u64 = 256 << 20;

/// A call site with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCallSite {
    /// The place of the call itself.
    pub code: NamedPlace,
    /// The place that called the function with the call.
    pub caller: Option<NamedPlace>,
    /// The places from which the caller was called, the nearest first.
    pub further: Vec<NamedPlace>,
}

/// A place in the code of a file, with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPlace {
    /// The place.
    pub place: CodePlace,
    /// The function, if the file or the stack of a core dump names it.
    pub function: Option<Box<str>>,
    /// Whether the file is on a file system that a program of another user serves, and was not read for that.
    pub is_served_by_user: bool,
}

impl NamedPlace {
    /// Names a place without its file.
    fn without_file(place: &CodePlace) -> Self {
        let told = str::from_utf8(&place.function).ok().filter(|function| !function.is_empty());
        Self { place: place.clone(), function: told.map(Into::into), is_served_by_user: false }
    }
}

/// Names call sites by the files below a root, in order. `None` for a site that its own file contradicts.
#[must_use]
pub fn name_call_sites(sites: &[Option<&CallSite>], root: &Path) -> Vec<Option<NamedCallSite>> {
    let tree = RootedTree::new(root);
    let mut places: Vec<&CodePlace> = Vec::new();
    for place in
        sites.iter().flatten().flat_map(|site| [&site.code].into_iter().chain(&site.caller).chain(&site.further))
    {
        if places.len() < MOST_PLACES && !places.contains(&place) {
            places.push(place);
        }
    }
    let limits = Rc::new(ReadLimits::by_bytes(MOST_BYTES));
    let named = places.into_iter().map(|place| (place, name_place(place, tree, &limits)));
    let named: HashMap<&CodePlace, Option<NamedPlace>> = named.collect();
    let find = |place: &CodePlace| {
        let without = || Some(NamedPlace::without_file(place));
        named.get(place).cloned().unwrap_or_else(without)
    };
    let name = |site: &CallSite| {
        let further = site.further.iter().filter_map(find).collect();
        Some(NamedCallSite { code: find(&site.code)?, caller: site.caller.as_ref().and_then(find), further })
    };
    sites.iter().map(|site| site.and_then(name)).collect()
}

/// Adds the ids of builds that the kernel could not read, since the process had not used that part of its memory. Reads only
/// files of the system, so that no user's file system can make the caller wait.
pub(crate) fn add_build_ids<'a>(sites: impl Iterator<Item = &'a mut CallSite>, root: &Path) {
    let (tree, limits) = (RootedTree::new(root), Rc::new(ReadLimits::by_bytes(MOST_BYTES)));
    let places = sites.flat_map(|site| std::iter::once(&mut site.code).chain(&mut site.caller));
    for place in places.filter(|place| place.build_id.is_empty() && is_of_system(&place.path)).take(MOST_PLACES) {
        if let Ok(Some((mut file, _))) = open_noted(place, tree, &limits) {
            place.build_id = ElfFile::read_build_id(&mut file).unwrap_or_default().into_vec();
        }
    }
}

fn is_of_system(path: &[u8]) -> bool {
    const DIRECTORIES: [&[u8]; 5] = [b"/usr/", b"/lib/", b"/lib64/", b"/bin/", b"/sbin/"];
    DIRECTORIES.iter().any(|directory| path.starts_with(directory))
}

/// Names a place; `None` for a place that is not in its file.
fn name_place(place: &CodePlace, tree: RootedTree<'_>, limits: &Rc<ReadLimits>) -> Option<NamedPlace> {
    let without_function = NamedPlace::without_file(place);
    let (mut file, length) = match open_noted(place, tree, limits) {
        Ok(Some(opened)) => opened,
        Ok(None) => return Some(without_function),
        Err(error) => {
            return Some(NamedPlace { is_served_by_user: is_served_by_user(&error), ..without_function });
        }
    };
    if place.offset > length {
        return None;
    }
    let mut named = without_function;
    if place.build_id.is_empty() {
        named.place.build_id = ElfFile::read_build_id(&mut file).unwrap_or_default().into_vec();
    }
    let function = find_function(&mut file, place.offset).filter(|_| !file.is_exhausted());
    named.function = function.or(named.function);
    Some(named)
}

/// Opens the noted file; `None` if its path leads to another one. Returns its length as well.
fn open_noted(
    place: &CodePlace,
    tree: RootedTree<'_>,
    limits: &Rc<ReadLimits>,
) -> io::Result<Option<(LimitedFile, u64)>> {
    let path = Path::new(OsStr::from_bytes(&place.path));
    if !path.is_absolute() {
        return Ok(None);
    }
    let file = tree.open(path)?;
    let metadata = file.metadata()?;
    let mut parts = LimitedFile::new(file, metadata.len(), Rc::clone(limits));
    let is_noted = if place.build_id.is_empty() {
        (metadata.dev(), metadata.ino()) == place.file
    } else {
        ElfFile::read_build_id(&mut parts).is_some_and(|id| *id == *place.build_id)
    };
    Ok(is_noted.then_some((parts, metadata.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The place of libc's `fchown` in this process, in a copy of libc below a root.
    fn place(root: &Path) -> CodePlace {
        let function = libc::fchown as *const () as u64;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let hex = |word: &str| u64::from_str_radix(word, 16).unwrap();
        let found = maps.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            (hex(start)..hex(end))
                .contains(&function)
                .then(|| (words[5].to_owned(), function - hex(start) + hex(words[2])))
        });
        let (path, start) = found.unwrap();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::copy(path, root.join("usr/lib/libc.so.6")).unwrap();
        let contents = fs::read(root.join("usr/lib/libc.so.6")).unwrap();
        let metadata = fs::metadata(root.join("usr/lib/libc.so.6")).unwrap();
        CodePlace {
            offset: start + 7,
            build_id: ElfFile::read_build_id(&mut &contents[..]).unwrap().into_vec(),
            file: (metadata.dev(), metadata.ino()),
            path: b"/usr/lib/libc.so.6".to_vec(),
            function: Vec::new(),
        }
    }

    fn name(place: &CodePlace, root: &Path) -> Option<NamedPlace> {
        let site = CallSite { code: place.clone(), ..CallSite::default() };
        name_call_sites(&[Some(&site)], root).remove(0).map(|site| site.code)
    }

    #[test]
    fn function_is_named_only_from_the_noted_file() {
        let root = tempfile::tempdir().unwrap();
        let own = place(root.path());
        let function = |place: &CodePlace| name(place, root.path()).unwrap().function;
        assert_eq!(function(&own).as_deref(), Some("fchown"));
        let by_inode = CodePlace { build_id: Vec::new(), ..own.clone() };
        assert_eq!(function(&by_inode).as_deref(), Some("fchown"));
        assert_eq!(function(&CodePlace { file: (0, 0), ..by_inode.clone() }), None, "another inode, and no id");
        assert_eq!(function(&CodePlace { build_id: vec![1; 20], ..own.clone() }), None, "another build");
        assert_eq!(
            function(&CodePlace { path: b"usr/lib/libc.so.6".to_vec(), ..own.clone() }),
            None,
            "a part of a path"
        );
        assert_eq!(function(&CodePlace { offset: 64, ..own.clone() }), None, "no code");
        assert_eq!(name(&CodePlace { offset: u64::MAX, ..own.clone() }, root.path()), None, "beyond the file");
        let caller = Some(CodePlace { file: (0, 0), ..by_inode.clone() });
        let mut without = CallSite { code: by_inode, caller, ..CallSite::default() };
        add_build_ids(std::iter::once(&mut without), root.path());
        assert_eq!(without.code, own);
        assert_eq!(without.caller.unwrap().build_id, b"", "another inode");
        let caller = Some(CodePlace { offset: u64::MAX, ..own.clone() });
        let told = CodePlace { path: b"libuv.so.1".to_vec(), function: b"uv_run".to_vec(), ..CodePlace::default() };
        let site = CallSite { caller, code: own, further: vec![told] };
        let named = name_call_sites(&[None, Some(&site)], root.path());
        assert_eq!(named[1].as_ref().unwrap().caller, None, "beyond the file");
        assert_eq!(named[1].as_ref().unwrap().further[0].function.as_deref(), Some("uv_run"), "as told");
        assert_eq!(named[0], None);
    }
}
