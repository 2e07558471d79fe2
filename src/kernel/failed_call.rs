//! A call that the kernel executed and that failed, as the BPF programs describe it: the call with its arguments, and what the
//! process may do.

use crate::incidents::CallSite;
use crate::kernel::call_notes::halves;
use crate::kernel::clock::Clocks;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What identifies a count (`struct failure_key`): the process, the call's number, the target's index with flags, what the
/// call returned, and a hash.
pub(crate) type FailureKey = [u32; 6];
/// A count with its description (`struct failure`).
pub(crate) type FailureCount = [u64; FAILURE_WORDS];
pub(crate) const FAILURE_WORDS: usize = 57;

/// Flag: no call failed, but the program got no privileges from its file.
const EXEC: u32 = 1 << 18;
/// The bits of the target's index.
const TARGET: u32 = 0xffff;
/// The size of a text in the count. A longer path has no zero byte in it.
const TEXT: usize = 256;
/// Flag in the length of a text: it is a socket address.
const ADDRESS_TEXT: i32 = 1 << 16;

/// A kind of failed call of one process, and how often it failed since the last report.
///
/// The description is of the first of these failures: the process may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// The index of the target among those of the tap.
    pub target: usize,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// What failed.
    pub event: FailedEvent,
    /// What the call's path or socket address points to.
    pub text: CallText,
    /// What the process may do.
    pub credentials: ProcessCredentials,
    /// A bit for each capability that the kernel looked for during the call and that the process lacked.
    pub missed: u64,
    /// Those of them that the kernel looked for in a user namespace other than the process's own.
    pub missed_elsewhere: u64,
    /// The number of failures.
    pub count: u64,
    /// When the first was, in milliseconds since the epoch.
    pub first: i64,
    /// When the latest was, in milliseconds since the epoch.
    pub last: i64,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// The name of the file that the process executes, without its directory. Unlike its own name, it cannot choose it.
    pub program: Vec<u8>,
    /// The address of the call.
    pub ip: u64,
    /// Where in its code the process made the first of these calls, if the kernel noted it.
    pub site: Option<Box<CallSite>>,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailedEvent {
    /// A call of the machine's own ABI.
    Call {
        /// Its number.
        number: u32,
        /// The error that the process got.
        errno: i32,
        /// Its arguments.
        arguments: [u64; 6],
    },
    /// A program that was executed under `no_new_privs`, and that its file would give another identity or capabilities.
    Exec {
        /// The mode of its file.
        mode: u32,
        /// The owner of its file.
        uid: u32,
        /// The group of its file.
        gid: u32,
    },
}

/// What a call's path or address argument points to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallText {
    /// The call has no such argument, or it could not be read.
    None,
    /// A path.
    Path(Vec<u8>),
    /// The first bytes of a path that is longer.
    CutPath(Vec<u8>),
    /// The bytes of a socket address.
    Address(Vec<u8>),
}

/// What a process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessCredentials {
    /// The real uid.
    pub uid: u32,
    /// The effective uid.
    pub effective_uid: u32,
    /// The effective gid.
    pub effective_gid: u32,
    /// The bounding set of capabilities.
    pub bounding: u64,
    /// The effective set of capabilities.
    pub effective: u64,
    /// The inode of the user namespace.
    pub user_namespace: u32,
    /// The inode of the mount namespace.
    pub mount_namespace: u32,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
}

impl CallText {
    fn new(bytes: &[u8], length: i32) -> Self {
        let is_address = length >= ADDRESS_TEXT;
        let Ok(length) = usize::try_from(if is_address { length - ADDRESS_TEXT } else { length }) else {
            return Self::None;
        };
        let bytes = bytes.get(..length.min(TEXT)).unwrap_or_default();
        match bytes.split_last() {
            None => Self::None,
            Some(_) if is_address => Self::Address(bytes.to_vec()),
            Some((_, path)) if length >= TEXT => Self::CutPath(path.to_vec()),
            Some((_, path)) => Self::Path(path.to_vec()),
        }
    }

    /// Returns an Internet address (`struct sockaddr_in` or `sockaddr_in6`).
    pub(crate) fn internet_address(&self) -> Option<SocketAddr> {
        let Self::Address(bytes) = self else { return None };
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let port = u16::from_be_bytes(*port);
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => Some((Ipv4Addr::from(*rest.first_chunk::<4>()?), port).into()),
            libc::AF_INET6 => Some((Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?), port).into()),
            _ => None,
        }
    }
}

impl FailedCall {
    /// Returns the kind of a count, with `count` failures; `None` as long as its description is not complete.
    pub(crate) fn new(key: FailureKey, value: &FailureCount, count: u64, clocks: &Clocks) -> Option<Self> {
        let [pid, number, flags, returned, _, _] = key;
        let [
            _,
            first,
            last,
            ready,
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            ip,
            bounding,
            effective,
            missed,
            missed_elsewhere,
            rest @ ..,
        ] = value;
        if *ready == 0 {
            return None;
        }
        let [namespaces, uids, gid_and_tid, privileges_and_length, comm @ ..] = rest;
        let [user_namespace, mount_namespace] = halves(*namespaces);
        let [uid, effective_uid] = halves(*uids);
        let [group, tid] = halves(*gid_and_tid);
        let [no_new_privileges, length] = halves(*privileges_and_length);
        let bytes: Vec<u8> = comm.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (comm, rest) = bytes.split_at_checked(16)?;
        let (program, text) = rest.split_at_checked(32)?;
        let until_zero = |name: &[u8]| name.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        let arguments = [*a0, *a1, *a2, *a3, *a4, *a5];
        let low = |argument: &u64| {
            let [low, _] = halves(*argument);
            low
        };
        Some(Self {
            target: (flags & TARGET) as usize,
            pid,
            tid,
            event: if flags & EXEC == 0 {
                FailedEvent::Call { number, errno: returned.cast_signed().wrapping_neg(), arguments }
            } else {
                FailedEvent::Exec { mode: low(a0), uid: low(a1), gid: low(a2) }
            },
            text: CallText::new(text, length.cast_signed()),
            credentials: ProcessCredentials {
                uid,
                effective_uid,
                effective_gid: group,
                bounding: *bounding,
                effective: *effective,
                user_namespace,
                mount_namespace,
                no_new_privileges: no_new_privileges != 0,
            },
            missed: *missed,
            missed_elsewhere: *missed_elsewhere,
            count,
            first: clocks.millis_of_monotonic(*first),
            last: clocks.millis_of_monotonic(*last),
            comm: until_zero(comm),
            program: until_zero(program),
            ip: *ip,
            site: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_its_zero_byte_and_a_longer_one_is_cut() {
        let mut bytes = [0; TEXT];
        bytes[..3].copy_from_slice(b"/a\xff");
        assert_eq!(CallText::new(&bytes, 4), CallText::Path(b"/a\xff".to_vec()));
        for unread in [0, -14, ADDRESS_TEXT] {
            assert_eq!(CallText::new(&bytes, unread), CallText::None);
        }
        let mut long = [b'x'; TEXT];
        long[TEXT - 1] = 0;
        assert_eq!(CallText::new(&long, 256), CallText::CutPath(vec![b'x'; TEXT - 1]));
        let address = [2, 0, 0, 80, 127, 0, 0, 0];
        let flagged = ADDRESS_TEXT + 8;
        assert_eq!(CallText::new(&address, flagged), CallText::Address(address.to_vec()), "it keeps its zeros");
    }

    #[test]
    fn internet_address_is_parsed_and_others_are_none() {
        let parse = |bytes: &[u8]| CallText::Address(bytes.to_vec()).internet_address();
        assert_eq!(parse(&[2, 0, 0, 80, 127, 0, 0, 1]), Some("127.0.0.1:80".parse().unwrap()));
        let mut six = [0; 28];
        (six[0], six[3], six[23]) = (10, 80, 1);
        assert_eq!(parse(&six), Some("[::1]:80".parse().unwrap()));
        for malformed in [&b""[..], &[2, 0, 0, 80, 1], &[1, 0, b'/', b'x'], &[10, 0, 0, 80, 0, 0, 0, 0, 1]] {
            assert_eq!(parse(malformed), None, "{malformed:?}");
        }
        assert_eq!(CallText::Path(vec![2, 0, 0, 80, 127, 0, 0, 1]).internet_address(), None);
    }

    #[test]
    fn count_that_is_not_described_yet_is_no_failed_call() {
        let mut value = [0; FAILURE_WORDS];
        value[0] = 7;
        assert_eq!(FailedCall::new([1; 6], &value, 7, &Clocks::now()), None);
        value[3] = 1;
        assert_eq!(FailedCall::new([1; 6], &value, 7, &Clocks::now()).unwrap().count, 7);
    }
}
