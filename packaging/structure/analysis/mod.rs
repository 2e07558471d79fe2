//! The tree below `src/`: its files, who imports whom, circles, and the order of its rooms.
//!
//! A file imports another if it names an item that the other one defines: by `use`, or by a path in code. A re-export
//! (`pub use`) is no import, and an item that comes through one counts as its defining file's. A `mod` line, or a module
//! named without an item of it, is no import. Code under `#[cfg(test)]` does not count, nor do the programs in
//! `src/bin/`. A call of a method names no file, so this analysis does not see it.

mod lexer;
pub(crate) mod source;

use source::{CodePath, Import, ModulePath, Source, read_source};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::{fs, io};

/// One file below `src/`.
pub(crate) struct File {
    /// Its path below `src/`.
    pub(crate) path: String,
    pub(crate) source: Source,
    /// Does it exist for tests alone?
    pub(crate) is_test: bool,
    /// Is it written by a program?
    pub(crate) is_generated: bool,
}

impl File {
    /// Returns the room that the file is in: the first directory, or the file's own name. The root is in none.
    pub(crate) fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        let room = first.strip_suffix(".rs").unwrap_or(first);
        if room == "lib" { "" } else { room }
    }
}

/// A file that imports items from another: indices into [`Tree::files`].
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) items: BTreeSet<String>,
}

/// A row of the map in `lib.rs`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) name: String,
    /// Does it no IO, know no clock and wait for nothing?
    pub(crate) is_pure: bool,
}

/// The files of a crate, in the order of their paths, and how they import each other.
pub(crate) struct Tree {
    /// The rooms in the order of the map: a room imports only from those before it.
    pub(crate) rooms: Vec<Room>,
    pub(crate) files: Vec<File>,
    /// In the order of both ends.
    pub(crate) arrows: Vec<Arrow>,
}

/// A type that two modules define: its name and their files.
pub(crate) struct SharedName {
    pub(crate) name: String,
    pub(crate) files: Vec<String>,
}

impl Tree {
    /// Reads the crate whose `src/` is below `checkout`.
    ///
    /// # Errors
    ///
    /// If a directory or a file of it cannot be read.
    pub(crate) fn open(checkout: &Path) -> io::Result<Self> {
        let root = checkout.join("src");
        let mut paths = Vec::new();
        list_files(&root, &mut paths)?;
        let mut texts = Vec::new();
        for path in paths {
            let relative = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
            texts.push((relative, fs::read_to_string(&path)?));
        }
        Ok(Self::from_files(texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))))
    }

    /// Reads a crate from (path below `src/`, text).
    pub(crate) fn from_files<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut rooms = Vec::new();
        let read = |(path, text): (&str, &str)| {
            if path == "lib.rs" {
                rooms = rooms_on_map(text);
            }
            let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
            let marks = ["Do not edit", "rather than change this file"];
            let is_generated = marks.iter().any(|mark| head.join(" ").contains(mark));
            File { path: path.to_owned(), source: read_source(&module_of(path), text), is_test: false, is_generated }
        };
        let mut files: Vec<File> = texts.into_iter().filter(|(path, _)| !path.starts_with("bin/")).map(read).collect();
        files.sort_by(|left, right| left.path.cmp(&right.path));
        mark_test_files(&mut files);
        let arrows = Resolver::new(&files).arrows();
        Self { rooms, files, arrows }
    }

    /// Returns the files outside of tests.
    pub(crate) fn code_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| !file.is_test)
    }

    /// Returns the sets of files that import each other, directly or through others.
    pub(crate) fn circles(&self) -> Vec<Vec<usize>> {
        let reach: Vec<BTreeSet<usize>> = (0..self.files.len()).map(|file| self.reachable(file)).collect();
        let mut circles: Vec<Vec<usize>> = Vec::new();
        for file in 0..self.files.len() {
            let circle: Vec<usize> =
                reach[file].iter().copied().filter(|other| reach[*other].contains(&file)).collect();
            if circle.first() == Some(&file) {
                circles.push(circle);
            }
        }
        circles
    }

    /// Returns the files that `file` imports, directly or through others: itself only in a circle.
    pub(crate) fn reachable(&self, file: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![file];
        while let Some(from) = waiting.pop() {
            let first = self.arrows.partition_point(|arrow| arrow.from < from);
            for arrow in self.arrows[first..].iter().take_while(|arrow| arrow.from == from) {
                if reached.insert(arrow.to) {
                    waiting.push(arrow.to);
                }
            }
        }
        reached
    }

    /// Returns the files on any chain of imports from one file to another, both included.
    pub(crate) fn between(&self, from: usize, to: usize) -> BTreeSet<usize> {
        let mut between = self.reachable(from);
        between.retain(|file| self.reachable(*file).contains(&to));
        between.extend([from, to]);
        between
    }

    /// Returns the pairs of rooms where the first imports from the second.
    pub(crate) fn room_arrows(&self) -> BTreeSet<(&str, &str)> {
        let rooms = self.arrows.iter().map(|arrow| (self.files[arrow.from].room(), self.files[arrow.to].room()));
        rooms.filter(|(from, to)| from != to).collect()
    }

    /// Describes each import from a room that the map lists after the importing file's.
    pub(crate) fn backward_imports(&self) -> Vec<String> {
        let place = |file: usize| self.rooms.iter().position(|room| room.name == self.files[file].room());
        let backward = self.arrows.iter().filter(|arrow| place(arrow.to) > place(arrow.from));
        backward.map(|arrow| self.describe(arrow)).collect()
    }

    /// Describes the arrows of a circle, one a line.
    pub(crate) fn describe_circle(&self, circle: &[usize]) -> String {
        let within = |arrow: &&Arrow| circle.contains(&arrow.from) && circle.contains(&arrow.to);
        let lines: Vec<String> = self.arrows.iter().filter(within).map(|arrow| self.describe(arrow)).collect();
        lines.join("\n")
    }

    fn describe(&self, arrow: &Arrow) -> String {
        let items: Vec<&str> = arrow.items.iter().map(String::as_str).collect();
        format!("{} imports {} from {}", self.files[arrow.from].path, items.join(", "), self.files[arrow.to].path)
    }

    /// Returns the names of types that more than one module defines.
    pub(crate) fn shared_type_names(&self) -> Vec<SharedName> {
        const TYPES: [&str; 5] = ["struct", "enum", "union", "trait", "type"];
        let mut names: BTreeMap<&str, BTreeSet<(&ModulePath, &str)>> = BTreeMap::new();
        for file in self.code_files() {
            for definition in file.source.definitions.iter().filter(|found| TYPES.contains(&found.keyword.as_str())) {
                names.entry(&definition.name).or_default().insert((&definition.module, &file.path));
            }
        }
        let shared = names.into_iter().filter(|(_, places)| places.len() > 1).map(|(name, places)| SharedName {
            name: name.to_owned(),
            files: places.into_iter().map(|(_, path)| path.to_owned()).collect(),
        });
        shared.collect()
    }

    /// Returns the file and line of each function that is called `of`.
    pub(crate) fn of_functions(&self) -> Vec<String> {
        let lines = |file: &File| {
            let path = file.path.clone();
            file.source.of_functions.clone().into_iter().map(move |line| format!("{path}:{line}"))
        };
        self.files.iter().flat_map(lines).collect()
    }
}

/// Reads the rooms from the table in the documentation of `lib.rs`: name, content, and whether it is pure.
fn rooms_on_map(library: &str) -> Vec<Room> {
    let rows = library.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let rooms = rows
        .filter_map(|row| row.split_once('`'))
        .map(|(name, rest)| Room { name: name.to_owned(), is_pure: rest.trim_end_matches(" |").ends_with("| yes") });
    rooms.collect()
}

fn list_files(dir: &Path, into: &mut Vec<std::path::PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            list_files(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// Returns the module that a file below `src/` defines.
fn module_of(path: &str) -> ModulePath {
    let mut module: ModulePath = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// Marks the files of modules that are declared under `#[cfg(test)]`, and of modules below them.
fn mark_test_files(files: &mut [File]) {
    let tests: Vec<ModulePath> = files.iter().flat_map(|file| file.source.test_modules.clone()).collect();
    for file in files {
        file.is_test = tests.iter().any(|module| module_of(&file.path).starts_with(module));
    }
}

/// Finds the file that defines what a path names.
struct Resolver<'a> {
    files: &'a [File],
    /// Every module, inline ones too, and the file that has it.
    modules: HashMap<&'a ModulePath, usize>,
    imports: HashMap<(&'a ModulePath, &'a str), &'a CodePath>,
    globs: HashMap<&'a ModulePath, Vec<&'a CodePath>>,
    definitions: HashSet<(&'a ModulePath, &'a str)>,
}

/// How many re-exports one item may come through. Bounds names that refer to each other.
const MOST_REEXPORTS: usize = 16;

impl<'a> Resolver<'a> {
    fn new(files: &'a [File]) -> Self {
        let mut this = Self {
            files,
            modules: HashMap::new(),
            imports: HashMap::new(),
            globs: HashMap::new(),
            definitions: HashSet::new(),
        };
        for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.is_test) {
            this.modules.extend(file.source.modules.iter().map(|module| (module, index)));
            for Import { name, path, .. } in &file.source.imports {
                if name == "*" {
                    this.globs.entry(&path.module).or_default().push(path);
                } else {
                    this.imports.insert((&path.module, name), path);
                }
            }
            let definitions = file.source.definitions.iter().map(|found| (&found.module, found.name.as_str()));
            this.definitions.extend(definitions);
        }
        this
    }

    fn arrows(&self) -> Vec<Arrow> {
        let mut items: BTreeMap<(usize, usize), BTreeSet<String>> = BTreeMap::new();
        for (from, file) in self.files.iter().enumerate().filter(|(_, file)| !file.is_test) {
            let used = file.source.imports.iter().filter(|import| !import.is_public);
            let used = used.map(|import| (&import.path, import.name == "*"));
            for (path, is_glob) in used.chain(file.source.paths.iter().map(|path| (path, false))) {
                let Some((to, item)) = self.resolve(path, MOST_REEXPORTS) else { continue };
                // A module named without an item is no import, unless all of its items are taken.
                if to == from || (item.is_empty() && !is_glob) {
                    continue;
                }
                let item = if is_glob { "*".to_owned() } else { item.join("::") };
                items.entry((from, to)).or_default().insert(item);
            }
        }
        items.into_iter().map(|((from, to), items)| Arrow { from, to, items }).collect()
    }

    /// Returns the file that defines what `path` names, and the part of the path below that file's module. Names of
    /// other crates, and of what is local to a function, are in no file.
    fn resolve(&self, path: &CodePath, depth: usize) -> Option<(usize, Vec<String>)> {
        let absolute = self.absolute(path, depth)?;
        let (module, file, item) = self.split(&absolute)?;
        let depth = depth.checked_sub(1)?;
        let Some((first, rest)) = item.split_first() else {
            // A function may have its module's name: `pub use errno::errno`.
            let (name, parent) = path.segments.last().zip(module.split_last().map(|(_, parent)| parent.to_vec()))?;
            let import = self.imports.get(&(&parent, name.as_str())).and_then(|import| self.resolve(import, depth));
            return Some(import.unwrap_or((file, Vec::new())));
        };
        let through = |found: &CodePath| {
            let segments = found.segments.iter().chain([first]).chain(rest).cloned().collect();
            self.resolve(&CodePath { module: found.module.clone(), segments }, depth)
        };
        if self.definitions.contains(&(module, first)) {
            return Some((file, item.to_vec()));
        }
        if let Some(import) = self.imports.get(&(module, first)) {
            let segments = import.segments.iter().chain(rest).cloned().collect();
            // What comes from another crate is this file's import, not this crate's.
            return self.resolve(&CodePath { module: import.module.clone(), segments }, depth);
        }
        let globs = self.globs.get(module).into_iter().flatten();
        let found = globs.filter_map(|glob| through(glob)).find(|(file, item)| {
            self.files[*file].source.definitions.iter().any(|found| item.first() == Some(&found.name))
        });
        Some(found.unwrap_or((file, item.to_vec())))
    }

    /// Returns the path below the crate's root.
    fn absolute(&self, path: &CodePath, depth: usize) -> Option<ModulePath> {
        let mut base = path.module.clone();
        let mut segments = path.segments.as_slice();
        let first = segments.first()?;
        if first == "crate" {
            base.clear();
            segments = &segments[1..];
        } else if first == "self" || first == "super" {
            while let Some((word, rest)) = segments.split_first()
                && (word == "super" || word == "self")
            {
                if word == "super" {
                    base.pop();
                }
                segments = rest;
            }
        } else {
            let module: ModulePath = base.iter().chain([first]).cloned().collect();
            if !self.modules.contains_key(&module) && !self.definitions.contains(&(&path.module, first)) {
                let import = self.imports.get(&(&path.module, first.as_str()))?;
                // `use x::y as x` names the other crate `x`.
                if import.segments.first() == Some(first) {
                    return None;
                }
                base = self.absolute(import, depth.checked_sub(1)?)?;
                segments = &segments[1..];
            }
        }
        base.extend(segments.iter().cloned());
        Some(base)
    }

    /// Splits a path into the innermost module that it names, that module's file, and the rest.
    fn split<'p>(&self, path: &'p ModulePath) -> Option<(&'a ModulePath, usize, &'p [String])> {
        (0..=path.len()).rev().find_map(|length| {
            let (module, file) = self.modules.get_key_value(&path[..length].to_vec())?;
            Some((*module, *file, &path[length..]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let tree = Tree::from_files(files.iter().copied());
        let names = |circle: Vec<usize>| circle.iter().map(|file| tree.files[*file].path.clone()).collect();
        tree.circles().into_iter().map(names).collect()
    }

    fn arrows(files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::from_files(files.iter().copied());
        tree.arrows.iter().map(|arrow| tree.describe(arrow)).collect()
    }

    const LIB: (&str, &str) = ("lib.rs", "pub mod a;\npub mod b;");

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        let files =
            [LIB, ("a.rs", "use crate::b::B;\npub struct A;"), ("b.rs", "pub struct B;\nfn f() { crate::a::A; }")];
        assert_eq!(circles(&files), [["a.rs", "b.rs"]]);
        let tree = Tree::from_files(files);
        let described = "a.rs imports B from b.rs\nb.rs imports A from a.rs";
        assert_eq!(tree.describe_circle(&tree.circles()[0]), described);
    }

    #[test]
    fn circle_through_a_third_file_is_found() {
        let files = [
            ("a.rs", "use crate::b::B;\npub struct A;"),
            ("b.rs", "use crate::c::C;\npub struct B;"),
            ("c.rs", "use crate::a::A;\npub struct C;"),
            ("d.rs", "use crate::a::A;"),
        ];
        assert_eq!(circles(&files), [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn circle_through_a_reexport_is_found() {
        let files = [
            ("a/mod.rs", "mod inner;\npub use inner::A;"),
            ("a/inner.rs", "use crate::b::f;\npub struct A;"),
            ("b.rs", "use crate::a::A;\npub fn f() {}"),
        ];
        assert_eq!(circles(&files), [["a/inner.rs", "b.rs"]]);
    }

    #[test]
    fn file_that_uses_what_it_reexports_imports_it() {
        let files = [
            ("a/mod.rs", "mod inner;\npub use inner::A;\npub struct B;\nfn f(_: A) {}"),
            ("a/inner.rs", "use super::B;\npub struct A;"),
        ];
        assert_eq!(circles(&files), [["a/inner.rs", "a/mod.rs"]]);
    }

    #[test]
    fn circle_through_a_reexport_of_all_names_is_found() {
        let files = [
            ("a/mod.rs", "mod inner;\npub use inner::*;"),
            ("a/inner.rs", "use crate::b::f;\npub struct A;"),
            ("b.rs", "use crate::a::A as Other;\npub fn f() {}"),
        ];
        assert_eq!(circles(&files), [["a/inner.rs", "b.rs"]]);
    }

    #[test]
    fn child_that_uses_its_caller_is_a_circle() {
        let files = [
            ("a/mod.rs", "mod inner;\npub struct A;\nfn f() { inner::g(); }"),
            ("a/inner.rs", "use super::A;\npub fn g() {}"),
        ];
        assert_eq!(circles(&files), [["a/inner.rs", "a/mod.rs"]]);
        let deep = [
            ("a.rs", "mod b;\npub struct A;\nfn f() { b::c::g(); }"),
            ("a/b.rs", "pub mod c;"),
            ("a/b/c.rs", "pub fn g(_: super::super::A) {}"),
        ];
        assert_eq!(circles(&deep), [["a.rs", "a/b/c.rs"]]);
    }

    #[test]
    fn child_that_uses_a_siblings_item_through_its_parent_is_no_circle() {
        let files = [
            ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub use c::f;"),
            ("a/b.rs", "pub struct B;"),
            ("a/c.rs", "use super::B;\npub fn f() {}"),
        ];
        assert_eq!(circles(&files), Vec::<Vec<String>>::new());
        assert_eq!(arrows(&files), ["a/c.rs imports B from a/b.rs"]);
    }

    #[test]
    fn path_below_an_imported_module_is_an_import() {
        let files =
            [("a.rs", "use crate::b;\nfn f() { b::g(); }"), ("b.rs", "pub fn g() {}"), ("c.rs", "use crate::b;")];
        assert_eq!(arrows(&files), ["a.rs imports g from b.rs"]);
    }

    #[test]
    fn imports_of_tests_do_not_count() {
        let files = [
            ("a.rs", "pub struct A;\n#[cfg(test)]\nmod tests { use crate::b::B; }\n#[cfg(test)]\nmod more;"),
            ("a/more.rs", "use crate::b::B;"),
            ("b.rs", "use crate::a::A;\npub struct B;"),
        ];
        assert_eq!(arrows(&files), ["b.rs imports A from a.rs"]);
    }

    #[test]
    fn names_of_other_crates_are_no_imports() {
        let files = [("a.rs", "use std::b::c;\nuse b::B;\nfn f() { c::d(); B::new(); }"), ("b.rs", "pub struct B;")];
        assert_eq!(arrows(&files), Vec::<String>::new());
    }

    #[test]
    fn files_between_two_are_those_on_a_chain_of_imports() {
        let files = [
            ("a.rs", "use crate::b::B;\nuse crate::d::D;"),
            ("b.rs", "use crate::c::C;\npub struct B;"),
            ("c.rs", "pub struct C;"),
            ("d.rs", "pub struct D;"),
        ];
        let tree = Tree::from_files(files);
        assert_eq!(tree.between(0, 2), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn file_that_a_program_writes_is_generated() {
        let files = [("a.rs", "//! Numbers.\n//! Generated by x. Do not edit."), ("b.rs", "//! By hand.")];
        let generated = Tree::from_files(files).files.iter().map(|file| file.is_generated).collect::<Vec<_>>();
        assert_eq!(generated, [true, false]);
    }

    #[test]
    fn import_from_a_room_further_down_the_map_is_found() {
        let lines = |map| {
            let files = [
                ("lib.rs", map),
                ("a/x.rs", "use crate::b::B;"),
                ("b.rs", "use crate::c::C;\npub struct B;"),
                ("c.rs", "pub struct C;"),
            ];
            Tree::from_files(files)
        };
        let sorted = lines("//! | [`c`] | sea | yes |\n//! | [`b`] | bee | no |\n//! | [`a`] | eh | no |\n");
        assert_eq!(sorted.backward_imports(), Vec::<String>::new());
        assert_eq!(sorted.rooms[0], Room { name: "c".to_owned(), is_pure: true });
        assert_eq!(sorted.rooms[2], Room { name: "a".to_owned(), is_pure: false });
        assert_eq!(sorted.room_arrows(), BTreeSet::from([("a", "b"), ("b", "c")]));
        let swapped = lines("//! | [`c`] | sea | yes |\n//! | [`a`] | eh | no |\n//! | [`b`] | bee | no |\n");
        assert_eq!(swapped.backward_imports(), ["a/x.rs imports B from b.rs"]);
    }

    #[test]
    fn type_defined_in_two_modules_is_found() {
        let files = [
            ("a.rs", "pub struct X;\nstruct Y;\n#[cfg(test)]\nmod tests { struct Z; }"),
            ("b.rs", "enum X {}\nmod c { type Y = u8; }\nimpl Q for X { type Z = u8; }\nfn of() {}"),
        ];
        let tree = Tree::from_files(files);
        let shared: Vec<_> = tree.shared_type_names().into_iter().map(|shared| (shared.name, shared.files)).collect();
        let both = || vec!["a.rs".to_owned(), "b.rs".to_owned()];
        assert_eq!(shared, [("X".to_owned(), both()), ("Y".to_owned(), both())]);
        assert_eq!(tree.of_functions(), ["b.rs:4"]);
    }
}
