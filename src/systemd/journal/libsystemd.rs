//! The part of `libsystemd.so.0` that reads journals (`sd-journal(3)`), loaded at first use. A machine without the
//! library loses this one source of evidence; a program that links the library would not start there.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

/// `SD_JOURNAL_LOCAL_ONLY`.
const LOCAL_ONLY: c_int = 1;

type Handle = *mut c_void;

// The types of `systemd/sd-journal.h`.
type OpenFn = unsafe extern "C" fn(*mut Handle, c_int) -> c_int;
type OpenDirectoryFn = unsafe extern "C" fn(*mut Handle, *const c_char, c_int) -> c_int;
type OpenFilesFn = unsafe extern "C" fn(*mut Handle, *mut *const c_char, c_int) -> c_int;
type RestartFn = unsafe extern "C" fn(Handle);
type QueryFn = unsafe extern "C" fn(Handle, *const c_char) -> c_int;
type EnumerateFn = unsafe extern "C" fn(Handle, *mut *const c_void, *mut usize) -> c_int;
type CloseFn = unsafe extern "C" fn(Handle);
type AddMatchFn = unsafe extern "C" fn(Handle, *const c_void, usize) -> c_int;
type SeekFn = unsafe extern "C" fn(Handle, u64) -> c_int;
type NextFn = unsafe extern "C" fn(Handle) -> c_int;
type TimeFn = unsafe extern "C" fn(Handle, *mut u64) -> c_int;
type GetFn = unsafe extern "C" fn(Handle, *const c_char, *mut *const c_void, *mut usize) -> c_int;

/// The library's functions.
#[derive(Debug)]
pub(crate) struct Library {
    open: OpenFn,
    open_directory: OpenDirectoryFn,
    open_files: OpenFilesFn,
    restart_data: RestartFn,
    enumerate_data: EnumerateFn,
    query_unique: QueryFn,
    enumerate_unique: EnumerateFn,
    close: CloseFn,
    add_match: AddMatchFn,
    seek: SeekFn,
    next: NextFn,
    time: TimeFn,
    get: GetFn,
}

impl Library {
    /// Loads the library for the lifetime of this process.
    ///
    /// # Errors
    /// The text of `dlerror(3)`.
    pub(crate) fn load() -> Result<Self, String> {
        // SAFETY: the constructors of the library and of its dependencies only set up tables of their own.
        let library = unsafe { libc::dlopen(c"libsystemd.so.0".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if library.is_null() {
            return Err(dl_error());
        }
        macro_rules! function {
            ($name:literal, $kind:ty) => {{
                // SAFETY: the library stays loaded.
                let address = unsafe { libc::dlsym(library, $name.as_ptr()) };
                if address.is_null() {
                    return Err(dl_error());
                }
                // SAFETY: the header gives this function this type, and it is stable.
                unsafe { std::mem::transmute::<*mut c_void, $kind>(address) }
            }};
        }
        Ok(Self {
            open: function!(c"sd_journal_open", OpenFn),
            open_directory: function!(c"sd_journal_open_directory", OpenDirectoryFn),
            open_files: function!(c"sd_journal_open_files", OpenFilesFn),
            restart_data: function!(c"sd_journal_restart_data", RestartFn),
            enumerate_data: function!(c"sd_journal_enumerate_data", EnumerateFn),
            query_unique: function!(c"sd_journal_query_unique", QueryFn),
            enumerate_unique: function!(c"sd_journal_enumerate_unique", EnumerateFn),
            close: function!(c"sd_journal_close", CloseFn),
            add_match: function!(c"sd_journal_add_match", AddMatchFn),
            seek: function!(c"sd_journal_seek_realtime_usec", SeekFn),
            next: function!(c"sd_journal_next", NextFn),
            time: function!(c"sd_journal_get_realtime_usec", TimeFn),
            get: function!(c"sd_journal_get_data", GetFn),
        })
    }

    /// Opens this machine's journals, or those in a directory.
    pub(crate) fn open(&self, directory: Option<&Path>) -> io::Result<JournalCursor<'_>> {
        let mut handle = null_mut();
        let result = match directory {
            // SAFETY: the handle is writable.
            None => unsafe { (self.open)(&raw mut handle, LOCAL_ONLY) },
            Some(directory) => {
                let path = CString::new(directory.as_os_str().as_bytes())?;
                // SAFETY: as above, and the path outlives the call.
                unsafe { (self.open_directory)(&raw mut handle, path.as_ptr(), 0) }
            }
        };
        check(result)?;
        Ok(JournalCursor { library: self, handle })
    }

    /// Opens journal files of any machines. Their entries come in the order of time.
    pub(crate) fn open_files(&self, files: &[PathBuf]) -> io::Result<JournalCursor<'_>> {
        let names = files.iter().map(|file| CString::new(file.as_os_str().as_bytes()));
        let names = names.collect::<Result<Vec<CString>, _>>()?;
        let mut paths: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        paths.push(std::ptr::null());
        let mut handle = null_mut();
        // SAFETY: the handle is writable, and the list of paths ends with null. It and the names outlive the call.
        check(unsafe { (self.open_files)(&raw mut handle, paths.as_mut_ptr(), 0) })?;
        Ok(JournalCursor { library: self, handle })
    }
}

/// The last error of `dlopen(3)` or `dlsym(3)`.
fn dl_error() -> String {
    // SAFETY: returns null, or a string that stays valid until this thread's next such call.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return "libsystemd.so.0 cannot be loaded".to_owned();
    }
    // SAFETY: a result other than null is a C string.
    unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
}

/// Converts a negative errno to an error.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

/// Open journals and a position in them. libsystemd requires that one thread uses them, so this
/// type is neither `Send` nor `Sync`.
pub(crate) struct JournalCursor<'a> {
    library: &'a Library,
    handle: Handle,
}

impl JournalCursor<'_> {
    /// Limits the entries to those with this `FIELD=value`; several values of one field are alternatives.
    pub(crate) fn add_match(&mut self, field: &str) -> io::Result<()> {
        // SAFETY: the handle is open, and the bytes outlive the call.
        check(unsafe { (self.library.add_match)(self.handle, field.as_ptr().cast(), field.len()) }).map(drop)
    }

    /// Moves before the first entry at or after a time, in microseconds since the epoch.
    pub(crate) fn seek(&mut self, since: u64) -> io::Result<()> {
        // SAFETY: the handle is open.
        check(unsafe { (self.library.seek)(self.handle, since) }).map(drop)
    }

    /// Moves to the next entry and returns its time, in microseconds since the epoch; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<u64>> {
        // SAFETY: the handle is open.
        if check(unsafe { (self.library.next)(self.handle) })? == 0 {
            return Ok(None);
        }
        let mut time = 0;
        // SAFETY: as above, and the time is writable.
        check(unsafe { (self.library.time)(self.handle, &raw mut time) })?;
        Ok(Some(time))
    }

    /// Calls a function with the name and the value of each field of the current entry.
    pub(crate) fn visit_fields(&self, visit: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        // SAFETY: the handle is open.
        unsafe { (self.library.restart_data)(self.handle) };
        self.visit_all(self.library.enumerate_data, visit)
    }

    /// Calls a function with each value that a field has in the open files, by their index.
    pub(crate) fn visit_values(&self, field: &CStr, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
        // SAFETY: the handle is open, and the name outlives the call.
        check(unsafe { (self.library.query_unique)(self.handle, field.as_ptr()) })?;
        self.visit_all(self.library.enumerate_unique, |_, value| visit(value))
    }

    fn visit_all(&self, enumerate: EnumerateFn, mut visit: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        loop {
            let (mut data, mut length) = (std::ptr::null(), 0);
            // SAFETY: the handle is open, and both results are writable.
            if check(unsafe { enumerate(self.handle, &raw mut data, &raw mut length) })? == 0 {
                return Ok(());
            }
            // SAFETY: `length` bytes stay valid until the next call, and nothing keeps them until then.
            let field = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) };
            if let Some(at) = memchr::memchr(b'=', field) {
                let (name, value) = field.split_at(at);
                visit(name, value.get(1..).unwrap_or_default());
            }
        }
    }

    /// The first value of a field of the current entry; `None` if the field is missing or unreadable.
    pub(crate) fn get(&self, name: &CStr) -> Option<Vec<u8>> {
        let (mut data, mut length) = (std::ptr::null(), 0);
        // SAFETY: the handle is open, the name outlives the call, and both results are writable.
        let result = unsafe { (self.library.get)(self.handle, name.as_ptr(), &raw mut data, &raw mut length) };
        if result < 0 || data.is_null() {
            return None;
        }
        // SAFETY: `length` bytes stay valid until the next call, and this function copies them before that.
        let field = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) };
        Some(field.strip_prefix(name.to_bytes())?.strip_prefix(b"=")?.to_vec())
    }
}

impl Drop for JournalCursor<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing uses it after this.
        unsafe { (self.library.close)(self.handle) }
    }
}
