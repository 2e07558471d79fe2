//! The proc connector's messages.

use crate::audit::record::SIGSYS;

/// `CN_IDX_PROC` and `CN_VAL_PROC` (`linux/connector.h`); the former is also the group.
pub(crate) const PROC: u32 = 1;
/// `PROC_EVENT_NONE`: the answer to a request.
pub(crate) const ACK: u32 = 0;
/// `PROC_EVENT_FORK`.
pub(crate) const FORK: u32 = 0x0000_0001;
/// `PROC_EVENT_EXIT`.
pub(crate) const EXIT: u32 = 0x8000_0000;
/// `PROC_EVENT_COREDUMP`.
pub(crate) const COREDUMP: u32 = 0x4000_0000;
/// Where things are in a message: `nlmsghdr`, `cn_msg`, `proc_event` without padding between.
pub(crate) mod at {
    pub(crate) const CN_INDEX: usize = 16;
    pub(crate) const CN_VALUE: usize = 20;
    pub(crate) const CN_ACK: usize = 28;
    pub(crate) const WHAT: usize = 36;
    pub(crate) const TIME: usize = 44;
    pub(crate) const PID: usize = 52;
    pub(crate) const ERROR: usize = 52;
    pub(crate) const TGID: usize = 56;
    pub(crate) const CODE: usize = 60;
    pub(crate) const CHILD_PID: usize = 60;
    pub(crate) const CHILD_TGID: usize = 64;
    pub(crate) const DYING_PARENT_TGID: usize = 64;
    pub(crate) const EXIT_PARENT_TGID: usize = 72;
}

/// What the kernel tells of a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It is about to die: the best moment to look at it.
    Dying(Dying),
    /// It died of SIGSYS.
    Exit(Exit),
}

/// A process is about to die of a signal that dumps core; which signal is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dying {
    /// Its thread group id in the initial PID namespace.
    pub pid: u32,
    /// The thread group of its parent; `None` where the kernel had lost track.
    pub parent: Option<u32>,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timestamp_ns: u64,
}

/// A process died of SIGSYS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its thread group id in the initial PID namespace.
    pub pid: u32,
    /// The thread group of its parent; `None` where that had reaped it already.
    pub parent: Option<u32>,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timestamp_ns: u64,
    /// Whether its status says that it dumped core.
    pub core_dumped: bool,
}

/// A process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// Its thread group id in the initial PID namespace.
    pub pid: u32,
    /// The thread group of its parent.
    pub parent: u32,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timestamp_ns: u64,
}

/// Reads a native-endian number.
pub(crate) fn word(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The event of a message of the proc connector.
pub(crate) fn event(message: &[u8]) -> Option<u32> {
    let ours = word(message, at::CN_INDEX)? == PROC && word(message, at::CN_VALUE)? == PROC;
    word(message, at::WHAT).filter(|_| ours)
}

/// Reads a birth, without trust in what the socket filter let through.
pub(crate) fn parse_birth(message: &[u8]) -> Option<Birth> {
    let (parent, pid) = (word(message, at::TGID)?, word(message, at::CHILD_TGID)?);
    let is_process = event(message)? == FORK && word(message, at::CHILD_PID)? == pid;
    let timestamp_ns = u64::from_ne_bytes(*message.get(at::TIME..)?.first_chunk()?);
    (is_process && parent != 0).then_some(Birth { pid, parent, timestamp_ns })
}

/// Reads a notice, without trust in what the socket filter let through.
pub(crate) fn parse(message: &[u8]) -> Option<Notice> {
    let what = event(message)?;
    let pid = word(message, at::TGID)?;
    let timestamp_ns = u64::from_ne_bytes(*message.get(at::TIME..)?.first_chunk()?);
    let parent = |at| word(message, at).map(|parent| Some(parent).filter(|&parent| parent != 0));
    match what {
        COREDUMP => Some(Notice::Dying(Dying { pid, parent: parent(at::DYING_PARENT_TGID)?, timestamp_ns })),
        EXIT => {
            let code = word(message, at::CODE)?;
            let leader = word(message, at::PID)? == pid;
            let parent = parent(at::EXIT_PARENT_TGID)?;
            let exit = Exit { pid, parent, timestamp_ns, core_dumped: code & 0x80 != 0 };
            (leader && code & 0x7f == SIGSYS.unsigned_abs()).then_some(Notice::Exit(exit))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message(what: u32, pid: u32, tgid: u32, code: u32, parent: u32) -> Vec<u8> {
        let words = [76, 3, 0, 0, PROC, PROC, 0, 0, 40, what, 0, 5, 0, pid, tgid, code, 17, parent, parent];
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    fn exit(message: &[u8]) -> Option<Exit> {
        match parse(message) {
            Some(Notice::Exit(exit)) => Some(exit),
            _ => None,
        }
    }

    #[test]
    fn a_death_by_sigsys_is_read() {
        let death = exit(&message(EXIT, 7, 7, 31 | 0x80, 3)).unwrap();
        assert_eq!((death.pid, death.parent, death.core_dumped), (7, Some(3), true));
        assert_eq!(death.timestamp_ns.to_ne_bytes(), [5_u32.to_ne_bytes(), [0; 4]].concat()[..]);
        let death = exit(&message(EXIT, 7, 7, 31, 0)).unwrap();
        assert_eq!((death.parent, death.core_dumped), (None, false));
    }

    #[test]
    fn a_core_dump_of_any_thread_is_an_announcement() {
        // Its parent stands where an exit has the signal to the parent.
        let announced = parse(&message(COREDUMP, 8, 7, 2, 3));
        assert!(matches!(announced, Some(Notice::Dying(Dying { pid: 7, parent: Some(17), .. }))), "{announced:?}");
    }

    #[test]
    fn everything_else_is_not() {
        for other in [
            message(EXIT, 7, 7, 11, 3),
            message(EXIT, 7, 7, 31 << 8, 3),
            message(EXIT, 8, 7, 31, 3),
            message(2, 7, 7, 31, 3),
            message(ACK, 7, 7, 31, 3),
        ] {
            assert_eq!(parse(&other), None);
        }
        let mut other_connector = message(EXIT, 7, 7, 31, 3);
        other_connector[at::CN_INDEX..at::CN_VALUE].copy_from_slice(&9_u32.to_ne_bytes());
        assert_eq!(parse(&other_connector), None);
    }

    #[test]
    fn a_birth_is_read() {
        // The child's thread group stands where an exit has the signal to the parent.
        let birth = parse_birth(&message(FORK, 4, 3, 17, 0)).unwrap();
        assert_eq!((birth.pid, birth.parent), (17, 3));
        assert_eq!(birth.timestamp_ns.to_ne_bytes(), [5_u32.to_ne_bytes(), [0; 4]].concat()[..]);
        for other in [message(FORK, 4, 3, 18, 0), message(FORK, 0, 0, 17, 0), message(EXIT, 4, 3, 17, 0)] {
            assert_eq!(parse_birth(&other), None);
        }
    }

    #[test]
    fn a_short_message_is_nothing() {
        let whole = message(FORK, 4, 3, 17, 0);
        assert!((0..at::CHILD_TGID + 4).all(|length| parse_birth(&whole[..length]).is_none()));
        for what in [EXIT, COREDUMP] {
            let whole = message(what, 7, 7, 31, 3);
            let shortest = if what == EXIT { whole.len() } else { at::DYING_PARENT_TGID + 4 };
            assert!((0..shortest).all(|length| parse(&whole[..length]).is_none()));
            assert!(parse(&whole[..shortest]).is_some());
        }
    }
}
