//! The texts of errors as libc prints them (`strerror(3)`, without a locale).

/// The errors of a sandbox, and others by which systemd's own steps fail.
const TEXTS: [(&str, i32); 22] = [
    ("Operation not permitted", libc::EPERM),
    ("No such file or directory", libc::ENOENT),
    ("No such process", libc::ESRCH),
    ("No such device or address", libc::ENXIO),
    ("Argument list too long", libc::E2BIG),
    ("Exec format error", libc::ENOEXEC),
    ("Cannot allocate memory", libc::ENOMEM),
    ("Permission denied", libc::EACCES),
    ("Device or resource busy", libc::EBUSY),
    ("File exists", libc::EEXIST),
    ("No such device", libc::ENODEV),
    ("Not a directory", libc::ENOTDIR),
    ("Invalid argument", libc::EINVAL),
    ("Read-only file system", libc::EROFS),
    ("Function not implemented", libc::ENOSYS),
    ("Too many levels of symbolic links", libc::ELOOP),
    ("Operation not supported", libc::EOPNOTSUPP),
    ("Address family not supported by protocol", libc::EAFNOSUPPORT),
    ("Address already in use", libc::EADDRINUSE),
    ("Network is unreachable", libc::ENETUNREACH),
    ("Required key not available", libc::ENOKEY),
    ("Text file busy", libc::ETXTBSY),
];

/// The errors that a sandbox gives a program, in lower case: Go prints no capitals, Java names some by an exception, and .NET
/// says that the access is denied.
const OF_PROGRAMS: [(&str, i32); 10] = [
    ("read-only file system", libc::EROFS),
    ("permission denied", libc::EACCES),
    ("operation not permitted", libc::EPERM),
    ("no such file or directory", libc::ENOENT),
    ("address family not supported", libc::EAFNOSUPPORT),
    ("network is unreachable", libc::ENETUNREACH),
    ("function not implemented", libc::ENOSYS),
    ("accessdeniedexception", libc::EACCES),
    ("nosuchfileexception", libc::ENOENT),
    ("access to the path", libc::EACCES),
];

/// The names of errors, in lower case, as OCaml and Erlang print them.
const NAMES: [(&str, i32); 2] = [("erofs", libc::EROFS), ("eacces", libc::EACCES)];

/// Returns the error that a text names as a whole.
pub(super) fn parse_errno(text: &str) -> Option<i32> {
    TEXTS.iter().find(|(known, _)| *known == text).map(|(_, errno)| *errno)
}

/// Returns the last error in a program's message in lower case: where its text begins and ends, and its number.
pub(super) fn find_errno(lowered: &str) -> Option<(usize, usize, i32)> {
    let texts = OF_PROGRAMS.iter().filter_map(|(text, errno)| Some((lowered.rfind(text)?, text.len(), *errno)));
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_word = |at: usize, name: &str| {
        let before = at.checked_sub(1).and_then(|before| lowered.as_bytes().get(before));
        !is_part(before) && !is_part(lowered.as_bytes().get(at + name.len()))
    };
    let find_name = |name: &str| lowered.rmatch_indices(name).map(|(at, _)| at).find(|at| is_word(*at, name));
    let names = NAMES.iter().filter_map(|(name, errno)| Some((find_name(name)?, name.len(), *errno)));
    texts.chain(names).max_by_key(|(at, ..)| *at).map(|(at, length, errno)| (at, at + length, errno))
}
