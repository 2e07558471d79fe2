//! Finds and reads the libraries of an executable, as `ld.so(8)` searches them.

use super::ProgramReader;
use super::limited_file::LimitedFile;
use crate::programs::ElfFile;
use crate::programs::elf_file::{Linkage, Platform};
use crate::programs::library_calls::{LibraryWalk, ReachedCalls, is_followed};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The limit on the libraries of a program.
const MOST_LIBRARIES: usize = 256;

/// The directories that the linker searches without configuration, on the distributions that systemd runs on.
const USUAL: [&str; 6] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib/x86_64-linux-gnu", "/lib64", "/lib"];

/// The directory of the files that name further directories (`ldconfig(8)`), and the limit on each file's size.
const CONFIGURED: &str = "/etc/ld.so.conf.d";
const LARGEST_CONFIGURATION: u64 = 64 << 10;

/// A library that a file needs, and the directories in which it is searched first.
type Needed = (Box<str>, Rc<[PathBuf]>);

impl ProgramReader<'_> {
    /// Returns what an executable reaches through its libraries. Libraries that are missing, that others can write, or
    /// that are beyond a limit count as unread.
    pub(super) fn read_libraries(&self, executable: &Path, linkage: &Linkage) -> ReachedCalls {
        let directories = self.find_directories();
        let mut walk = LibraryWalk::new();
        let mut seen: BTreeSet<Box<str>> = BTreeSet::new();
        let mut queue: VecDeque<Needed> = list_needed(executable, linkage).collect();
        while let Some((name, first)) = queue.pop_front() {
            if !is_followed(&name) || seen.contains(&name) {
                continue;
            }
            if seen.len() >= MOST_LIBRARIES {
                walk.miss(name);
                break;
            }
            seen.insert(name.clone());
            let paths = first.iter().chain(&directories).map(|directory| directory.join(&*name));
            let Some((resolved, mut file)) = self.open_library(paths, linkage.platform) else {
                walk.miss(name);
                continue;
            };
            match ElfFile::read_needed(&mut file) {
                Some(needed) => {
                    queue.extend(list_needed(&resolved, &needed));
                    walk.add(name, file);
                }
                None => walk.miss(name),
            }
        }
        walk.walk(linkage.functions.iter().map(AsRef::as_ref), self.deepest)
    }

    /// Opens the first of these files that exists, without those of another platform, which the linker skips. `None` if
    /// others can write it. Returns its path as well, with links resolved.
    fn open_library(&self, paths: impl Iterator<Item = PathBuf>, platform: Platform) -> Option<(PathBuf, LimitedFile)> {
        for path in paths {
            let Ok(opened) = self.open(&path) else { continue };
            let length = opened.file.metadata().ok()?.len();
            let mut file = LimitedFile::new(opened.file, length, Rc::clone(&self.limits));
            if Platform::read(&mut file).is_some_and(|other| other != platform) {
                continue;
            }
            return opened.is_protected.then_some((opened.resolved, file));
        }
        None
    }

    /// Returns the directories in which the linker searches libraries.
    fn find_directories(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        let tree = self.own_tree();
        let configuration = Path::new(CONFIGURED);
        let files = tree.map_or_else(Vec::new, |tree| tree.list(configuration).unwrap_or_default());
        for (name, _) in files.iter().filter(|(name, _)| Path::new(name).extension() == Some("conf".as_ref())) {
            let text = tree.and_then(|tree| tree.read_start(&configuration.join(name), LARGEST_CONFIGURATION).ok());
            let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
            found.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from));
        }
        found.extend(USUAL.iter().map(PathBuf::from));
        let mut seen = BTreeSet::new();
        found.retain(|directory| tree.is_some_and(|tree| tree.is_dir(directory)) && seen.insert(directory.clone()));
        found
    }
}

/// Returns the libraries that a file needs. `$ORIGIN` is the file's own directory.
fn list_needed(file: &Path, linkage: &Linkage) -> impl Iterator<Item = Needed> {
    let own = file.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let expand = |path: &str| PathBuf::from(path.replace("${ORIGIN}", &own).replace("$ORIGIN", &own));
    let paths: Vec<PathBuf> = linkage.paths.iter().map(|path| expand(path)).filter(|path| path.is_absolute()).collect();
    let paths: Rc<[PathBuf]> = paths.into();
    linkage.libraries.clone().into_iter().map(move |name| (name, Rc::clone(&paths)))
}
