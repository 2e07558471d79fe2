//! Loads BPF programs and their maps. The programs are written in C, in `src/kernel/bpf/*.bpf.c`; `packaging/bpf/build`
//! makes the objects. The offsets of the kernel's structures come from the kernel's type information.

use super::heap;
use aya::maps::{Map, MapError};
use aya::programs::{FExit, Program, ProgramError, RawTracePoint};
use aya::{Btf, BtfError, Ebpf, EbpfError, EbpfLoader, RawTracePointRunOptions, TestRun as _};
use std::error::Error;
use std::{fmt, io};

/// How much of the end of the verifier's log is kept, in bytes. The last lines say why the verifier refused the program.
const LOG_KEPT: usize = 8 << 10;

/// Loads objects for the running kernel. Holds the kernel's types, so it should not live long.
pub(crate) struct BpfLoader<'a>(Option<EbpfLoader<'a>>);

impl<'a> BpfLoader<'a> {
    /// Parses the kernel's types, which takes most of the time of a start and 20 MB. Ignores types that it cannot parse: then
    /// the programs refuse to run (`REQUIRE_OFFSETS` in `kernel.h`).
    pub(crate) fn new() -> Self {
        Self(Some(EbpfLoader::new()))
    }

    /// Creates the maps of an object, and sets constants of its programs. An object that is loaded later must have these
    /// constants, too.
    pub(crate) fn load(&mut self, object: &[u8], constants: &'a [(&'static str, u64)]) -> Result<BpfObject, BpfError> {
        if object.is_empty() {
            return Err(BpfError::unsupported("this build has no BPF programs for this machine's architecture"));
        }
        BpfObject::load_with(self.0.get_or_insert_with(EbpfLoader::new), object, constants)
    }
}

impl Drop for BpfLoader<'_> {
    fn drop(&mut self) {
        drop(self.0.take());
        heap::trim();
    }
}

/// The functions of the running kernel. Holds the kernel's types, so it should not live long.
pub(crate) struct KernelFunctions(Btf);

impl KernelFunctions {
    /// Parses the kernel's types.
    pub(crate) fn read() -> Result<Self, BpfError> {
        Ok(Self(Btf::from_sys_fs().map_err(|error| BpfError::from_cause(&error))?))
    }
}

/// An object whose maps exist, and whose programs can be attached. Dropping it ends the programs.
#[derive(Debug)]
pub(crate) struct BpfObject {
    object: Ebpf,
    links: Vec<BpfLink>,
}

/// Keeps a program attached. Dropping it ends the program.
pub(crate) type BpfLink = Box<dyn fmt::Debug + Send + Sync>;

impl BpfObject {
    /// Creates the maps of an object, and sets constants of its programs.
    pub(crate) fn load(object: &[u8], constants: &[(&'static str, u64)]) -> Result<Self, BpfError> {
        BpfLoader::new().load(object, constants)
    }

    fn load_with<'a>(
        loader: &mut EbpfLoader<'a>,
        object: &[u8],
        constants: &'a [(&'static str, u64)],
    ) -> Result<Self, BpfError> {
        for (name, value) in constants {
            loader.override_global(name, value, true);
        }
        Ok(Self { object: loader.load(object)?, links: Vec::new() })
    }

    /// Takes a map, which then lives on its own.
    pub(crate) fn take_map<M: TryFrom<Map, Error = MapError>>(&mut self, name: &str) -> Result<M, BpfError> {
        let map = self.object.take_map(name).ok_or_else(|| BpfError::unsupported("the object lacks a map"))?;
        Ok(M::try_from(map)?)
    }

    /// Loads a program, and attaches it to a raw tracepoint.
    pub(crate) fn attach(&mut self, program: &str, tracepoint: &str) -> Result<(), BpfError> {
        let program: &mut RawTracePoint = self.program(program)?;
        program.load()?;
        let id = program.attach(tracepoint)?;
        let link = program.take_link(id)?;
        self.links.push(Box::new(link));
        Ok(())
    }

    /// Loads a program, and attaches it to the end of a kernel function.
    pub(crate) fn attach_to_function(
        &mut self,
        program: &str,
        function: &str,
        functions: &KernelFunctions,
    ) -> Result<(), BpfError> {
        let program: &mut FExit = self.program(program)?;
        program.load(function, &functions.0)?;
        let id = program.attach()?;
        let link = program.take_link(id)?;
        self.links.push(Box::new(link));
        Ok(())
    }

    /// Returns what keeps the programs attached, without the copy of the object, which can be megabytes.
    pub(crate) fn into_links(self) -> Vec<BpfLink> {
        let Self { object, links } = self;
        drop(object);
        heap::trim();
        links
    }

    /// Loads a program, runs it once in this process, and returns its result.
    pub(crate) fn run(&mut self, program: &str) -> Result<u32, BpfError> {
        let program: &mut RawTracePoint = self.program(program)?;
        program.load()?;
        Ok(program.test_run(RawTracePointRunOptions::new())?.return_value)
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, BpfError>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program =
            self.object.program_mut(name).ok_or_else(|| BpfError::unsupported("the object lacks a program"))?;
        Ok(program.try_into()?)
    }
}

/// A program or map that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BpfError {
    error: io::Error,
    verifier_log: Option<String>,
}

impl BpfError {
    /// Returns the end of the verifier's log, at most 8 KiB, where the verifier refused a program and said why.
    ///
    /// Escape it before you show it.
    #[must_use]
    pub fn verifier_log(&self) -> Option<&str> {
        self.verifier_log.as_deref()
    }

    pub(crate) fn unsupported(why: &str) -> Self {
        io::Error::new(io::ErrorKind::Unsupported, why).into()
    }

    /// Whether the process lacks a right. The verifier answers `EACCES`, too, but with a log.
    pub(crate) fn is_missing_right(&self) -> bool {
        self.verifier_log.is_none() && matches!(self.error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
    }

    /// Whether the kernel has no function of that name.
    pub(crate) fn is_absent(&self) -> bool {
        self.error.kind() == io::ErrorKind::NotFound
    }

    /// Finds the kernel's error among the causes of a loader's error.
    fn from_cause(error: &(dyn Error + 'static)) -> Self {
        let (mut words, mut next) = (String::new(), Some(error));
        while let Some(cause) = next {
            if let Some(number) = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                return io::Error::from_raw_os_error(number).into();
            }
            // Some errors repeat their cause.
            let text = cause.to_string();
            if !words.ends_with(&text) {
                words += if words.is_empty() { "" } else { ": " };
                words += &text;
            }
            next = cause.source();
        }
        io::Error::other(words).into()
    }
}

impl From<io::Error> for BpfError {
    fn from(error: io::Error) -> Self {
        Self { error, verifier_log: None }
    }
}

impl From<io::ErrorKind> for BpfError {
    fn from(kind: io::ErrorKind) -> Self {
        io::Error::from(kind).into()
    }
}

impl From<MapError> for BpfError {
    fn from(error: MapError) -> Self {
        Self::from_cause(&error)
    }
}

impl From<EbpfError> for BpfError {
    fn from(error: EbpfError) -> Self {
        Self::from_cause(&error)
    }
}

impl From<ProgramError> for BpfError {
    fn from(error: ProgramError) -> Self {
        if matches!(error, ProgramError::Btf(BtfError::UnknownBtfTypeName { .. })) {
            return io::Error::new(io::ErrorKind::NotFound, error.to_string()).into();
        }
        let verifier_log = match &error {
            ProgramError::LoadError { verifier_log, .. } => log_end(&verifier_log.to_string()),
            _ => None,
        };
        Self { verifier_log, ..Self::from_cause(&error) }
    }
}

/// Returns the last lines of a log, as many as fit into [`LOG_KEPT`]; `None` for an empty log.
fn log_end(log: &str) -> Option<String> {
    let log = log.trim_ascii();
    let mut start = log.len().saturating_sub(LOG_KEPT);
    if start > 0 {
        start += log.as_bytes().get(start..)?.iter().position(|&byte| byte == b'\n')? + 1;
    }
    log.get(start..).filter(|log| !log.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::include_bytes_aligned;

    #[test]
    fn log_end_of_long_log_starts_at_a_line() {
        let lines = "7: r0 = 0\n".repeat(2_000);
        let kept = log_end(&format!("{lines}R0 !read_ok\n")).unwrap();
        assert!(kept.len() <= LOG_KEPT && kept.ends_with("7: r0 = 0\nR0 !read_ok"), "{kept}");
        assert!(kept.lines().all(|line| line == "R0 !read_ok" || line == "7: r0 = 0"), "{kept}");
        assert_eq!(log_end("short\n").as_deref(), Some("short"));
        assert_eq!((log_end("\n"), log_end(&"x".repeat(2 * LOG_KEPT))), (None, None));
    }

    #[test]
    fn error_of_a_loader_is_the_kernel_error_among_its_causes() {
        let io_error = io::Error::from_raw_os_error(libc::EPERM);
        let refused = BpfError::from(MapError::CreateError { name: "threads".to_owned(), io_error });
        assert!(refused.is_missing_right() && refused.verifier_log().is_none(), "{refused:?}");
        let parsed = BpfError::from(EbpfError::NoBTF);
        assert_eq!((parsed.to_string().as_str(), parsed.is_missing_right()), ("no BTF parsed for object", false));
    }

    static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/exit_notes.bpf.o"));

    /// Returns whether this process may load programs. Fails if it must be able to.
    fn may_load(error: &BpfError) -> bool {
        let required = std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_some_and(|value| value == "1");
        let may = !error.is_missing_right();
        assert!(may || !required, "required: a kernel that loads BPF programs: {error}");
        may
    }

    #[test]
    fn program_without_the_offsets_of_the_kernel_is_refused() {
        let mut without_types = EbpfLoader::new();
        without_types.btf(None);
        let attached = BpfObject::load_with(&mut without_types, OBJECT, &[])
            .and_then(|mut object| object.attach("hardenwhy_rmdir", "cgroup_rmdir"));
        let error = attached.unwrap_err();
        let log = error.verifier_log().unwrap_or_default();
        assert!(!may_load(&error) || log.contains("unknown#2147483647"), "{error}: {log}");
    }

    #[test]
    fn program_that_verifier_refuses_fails_with_its_log() {
        let object = OBJECT;
        // A program of another licence may not read the kernel's memory.
        let mut changed = object.to_vec();
        let at = object.windows(12).position(|bytes| bytes == b"Dual MIT/GPL").unwrap();
        changed[at..at + 12].copy_from_slice(b"Proprietary!");
        let attached = BpfObject::load(&changed, &[])
            .and_then(|mut object| object.attach("hardenwhy_rmdir", "cgroup_rmdir").map(|()| object));
        let error = attached.unwrap_err();
        if !may_load(&error) {
            return;
        }
        let log = error.verifier_log().unwrap_or_default();
        assert!(log.contains("GPL"), "{error}: {log}");
    }
}
