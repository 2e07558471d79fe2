//! The proc connector's messages.

use crate::audit::record::SIGSYS;

/// `CN_IDX_PROC` and `CN_VAL_PROC` (`linux/connector.h`). The former is also the multicast group.
pub(crate) const PROC: u32 = 1;
/// `PROC_EVENT_NONE`: acknowledges a request.
pub(crate) const ACK: u32 = 0;
/// `PROC_EVENT_EXIT`.
pub(crate) const EXIT: u32 = 0x8000_0000;
/// `PROC_EVENT_COREDUMP`.
pub(crate) const COREDUMP: u32 = 0x4000_0000;
/// Offsets in a message: `nlmsghdr`, `cn_msg` and `proc_event`, without padding in between.
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
    pub(crate) const COREDUMP_PARENT_TGID: usize = 64;
    pub(crate) const EXIT_PARENT_TGID: usize = 72;
}

/// What the kernel reports of a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeathNotice {
    /// The process is about to die: the best moment to look at it.
    CoreDump(CoreDump),
    /// The process died of SIGSYS.
    Exit(SigsysExit),
}

/// A process is about to die of a signal that dumps core. The event does not say which signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreDump {
    /// Its thread group id in the initial PID namespace.
    pub pid: u32,
    /// Its parent's thread group; `None` where the kernel no longer knows it.
    pub parent: Option<u32>,
    /// The time, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timestamp_ns: u64,
}

/// A process died of SIGSYS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigsysExit {
    /// Its thread group id in the initial PID namespace.
    pub pid: u32,
    /// Its parent's thread group; `None` where the parent has already reaped it.
    pub parent: Option<u32>,
    /// The time, in nanoseconds of `CLOCK_MONOTONIC`.
    pub timestamp_ns: u64,
    /// Whether the exit status has the core dump flag.
    pub core_dumped: bool,
}

/// Reads a native-endian number.
pub(crate) fn word(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Returns the event of a message; `None` if the message is not the proc connector's.
pub(crate) fn event(message: &[u8]) -> Option<u32> {
    let ours = word(message, at::CN_INDEX)? == PROC && word(message, at::CN_VALUE)? == PROC;
    word(message, at::WHAT).filter(|_| ours)
}

/// Parses a notice, without relying on the socket filter.
pub(crate) fn parse(message: &[u8]) -> Option<DeathNotice> {
    let what = event(message)?;
    let pid = word(message, at::TGID)?;
    let timestamp_ns = u64::from_ne_bytes(*message.get(at::TIME..)?.first_chunk()?);
    let parent = |at| word(message, at).map(|parent| Some(parent).filter(|&parent| parent != 0));
    match what {
        COREDUMP => {
            Some(DeathNotice::CoreDump(CoreDump { pid, parent: parent(at::COREDUMP_PARENT_TGID)?, timestamp_ns }))
        }
        EXIT => {
            let code = word(message, at::CODE)?;
            let leader = word(message, at::PID)? == pid;
            let parent = parent(at::EXIT_PARENT_TGID)?;
            let exit = SigsysExit { pid, parent, timestamp_ns, core_dumped: code & 0x80 != 0 };
            (leader && code & 0x7f == SIGSYS.unsigned_abs()).then_some(DeathNotice::Exit(exit))
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

    fn exit(message: &[u8]) -> Option<SigsysExit> {
        match parse(message) {
            Some(DeathNotice::Exit(exit)) => Some(exit),
            _ => None,
        }
    }

    #[test]
    fn exit_by_sigsys_parses_with_parent_and_core_flag() {
        let death = exit(&message(EXIT, 7, 7, 31 | 0x80, 3)).unwrap();
        assert_eq!((death.pid, death.parent, death.core_dumped), (7, Some(3), true));
        assert_eq!(death.timestamp_ns.to_ne_bytes(), [5_u32.to_ne_bytes(), [0; 4]].concat()[..]);
        let death = exit(&message(EXIT, 7, 7, 31, 0)).unwrap();
        assert_eq!((death.parent, death.core_dumped), (None, false));
    }

    #[test]
    fn core_dump_of_any_thread_parses_with_parent() {
        // The parent is where an exit event has the signal for the parent.
        let notice = parse(&message(COREDUMP, 8, 7, 2, 3));
        assert!(matches!(notice, Some(DeathNotice::CoreDump(CoreDump { pid: 7, parent: Some(17), .. }))), "{notice:?}");
    }

    #[test]
    fn other_exits_events_and_connectors_do_not_parse() {
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
    fn short_message_does_not_parse() {
        for what in [EXIT, COREDUMP] {
            let whole = message(what, 7, 7, 31, 3);
            let shortest = if what == EXIT { whole.len() } else { at::COREDUMP_PARENT_TGID + 4 };
            assert!((0..shortest).all(|length| parse(&whole[..length]).is_none()));
            assert!(parse(&whole[..shortest]).is_some());
        }
    }
}
