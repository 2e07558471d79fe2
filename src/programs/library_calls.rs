//! The functions of libc that a program reaches through its libraries: from the functions that it imports, over the
//! functions that these call, to the imports of the libraries.
//!
//! Calls by way of tables of functions are not followed. What a library does far from the imported function mostly
//! happens in rare cases: [`DEEPEST`] is where the recorded programs no longer made most of the calls.

use super::code_file::CodeFile;
use super::file_parts::FileParts;
use super::machine_code::Reference;
use super::wrappers::is_wrapper;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// How many functions of libraries lie between an imported one and the function that makes a call, at most, for the call
/// to count (`tests/data/imports`: of the calls at a depth of 0 and 1, recorded programs made 59 %; deeper, 30 %).
pub const DEEPEST: u32 = 1;

/// The limit on functions that are read for a program.
const MOST_FUNCTIONS: usize = 20_000;

/// The limit on the tables of all libraries together, in bytes.
const MOST_HELD: usize = 24 << 20;

/// Libraries whose functions are not followed. [`wrappers`](super::wrappers) knows those of libc; libsystemd can do all
/// that systemd's own tools do.
const NOT_FOLLOWED: [&str; 11] = [
    "ld-linux",
    "libc.so",
    "libc.musl",
    "libdl.so",
    "libgcc_s.so",
    "libm.so",
    "libpthread.so",
    "libresolv.so",
    "librt.so",
    "libsystemd.so",
    "libudev.so",
];

/// Whether the functions of a library are followed.
#[must_use]
pub(crate) fn is_followed(library: &str) -> bool {
    !NOT_FOLLOWED.iter().any(|name| library.starts_with(name))
}

/// The calls that a program reaches through a library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LibraryCalls {
    /// The library's name.
    pub library: Box<str>,
    /// The functions of libc that it imports, each with its depth: how many functions lie before the one that uses it.
    pub functions: BTreeMap<Box<str>, u32>,
    /// The numbers of the calls that it makes itself, each with its depth.
    pub numbers: BTreeMap<u32, u32>,
}

/// What a program reaches through all of its libraries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReachedCalls {
    /// The calls by library, in the order in which the linker searches them.
    pub libraries: Vec<LibraryCalls>,
    /// The libraries that were not read, or not to their end.
    pub unread: Vec<Box<str>>,
}

/// A walk through the code of a program's libraries.
pub(crate) struct LibraryWalk<F> {
    libraries: Vec<(CodeFile<F>, LibraryCalls)>,
    unread: Vec<Box<str>>,
    /// Whether the limit on functions was reached.
    is_cut: bool,
    /// The functions by name: the library, and the address in it.
    known: HashMap<Box<str>, Option<Function>>,
    seen: HashSet<Function>,
    queue: VecDeque<(Function, u32)>,
}

/// A function: the index of its library, and its address there.
type Function = (usize, u64);

impl<F: FileParts> LibraryWalk<F> {
    pub(crate) fn new() -> Self {
        Self {
            libraries: Vec::new(),
            unread: Vec::new(),
            is_cut: false,
            known: HashMap::new(),
            seen: HashSet::new(),
            queue: VecDeque::new(),
        }
    }

    /// Adds a library, in the order in which the linker searches them.
    pub(crate) fn add(&mut self, library: Box<str>, file: F) {
        let held: usize = self.libraries.iter().map(|(code, _)| code.size()).sum();
        match CodeFile::read(file).filter(|code| held + code.size() <= MOST_HELD) {
            Some(code) => self.libraries.push((code, LibraryCalls { library, ..LibraryCalls::default() })),
            None => self.miss(library),
        }
    }

    /// Notes a library that cannot be read.
    pub(crate) fn miss(&mut self, library: Box<str>) {
        self.unread.push(library);
    }

    /// Walks from the functions that a program imports, and from those that run when a library is loaded, to a depth.
    pub(crate) fn walk<'a>(mut self, imports: impl IntoIterator<Item = &'a str>, deepest: u32) -> ReachedCalls {
        for name in imports {
            if let Some(function) = self.find(name) {
                self.push(function, 0);
            }
        }
        for index in 0..self.libraries.len() {
            let initial = self.libraries.get_mut(index).map(|(code, _)| code.initial_functions());
            for address in initial.unwrap_or_default() {
                self.push((index, address), 0);
            }
        }
        while let Some((function, depth)) = self.queue.pop_front() {
            let Some((code, _)) = self.libraries.get_mut(function.0).filter(|(code, _)| !code.is_exhausted()) else {
                break;
            };
            for reference in code.references(function.1) {
                if let Some(next) = self.follow(function.0, reference, depth)
                    && depth < deepest
                {
                    self.push(next, depth + 1);
                }
            }
        }
        let partly = self.libraries.iter().filter(|(code, _)| self.is_cut || code.is_incomplete());
        self.unread.extend(partly.map(|(_, calls)| calls.library.clone()));
        let has_any = |calls: &LibraryCalls| !calls.functions.is_empty() || !calls.numbers.is_empty();
        let libraries = self.libraries.into_iter().map(|(_, calls)| calls).filter(has_any).collect();
        ReachedCalls { libraries, unread: self.unread }
    }

    fn push(&mut self, function: Function, depth: u32) {
        let Some((code, _)) = self.libraries.get_mut(function.0) else { return };
        if !code.is_start(function.1) || self.seen.contains(&function) {
            return;
        }
        if self.seen.len() >= MOST_FUNCTIONS {
            self.is_cut = true;
            return;
        }
        self.seen.insert(function);
        self.queue.push_back((function, depth));
    }

    fn find(&mut self, name: &str) -> Option<Function> {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let mut codes = self.libraries.iter().enumerate();
        let found = codes.find_map(|(index, (code, _))| Some((index, code.find_function(name)?)));
        self.known.insert(name.into(), found);
        found
    }

    /// Notes the call that a reference leads to, or returns the function.
    fn follow(&mut self, index: usize, reference: Reference, depth: u32) -> Option<Function> {
        let (code, calls) = self.libraries.get_mut(index)?;
        let (symbol, argument) = match reference {
            Reference::Syscall(number) => {
                calls.numbers.entry(number).or_insert(depth);
                return None;
            }
            Reference::Place(address, _) if code.is_start(address) => return Some((index, address)),
            Reference::Place(address, argument) => (code.symbol_of_stub(address)?, argument),
            Reference::Contents(place, argument) => (code.symbol_in(place)?, argument),
        };
        let (name, own) = code.symbol(symbol)?;
        if is_wrapper(name) {
            calls.functions.entry(name.into()).or_insert(depth);
        } else if name == "syscall" {
            argument.map(|number| calls.numbers.entry(number).or_insert(depth));
        } else if let Some(address) = own {
            return Some((index, address));
        } else {
            let name: Box<str> = name.into();
            return self.find(&name);
        }
        None
    }
}
