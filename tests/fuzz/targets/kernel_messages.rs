//! Messages of the audit group and of the proc connector.

use crate::audit::{parse_record, parse_serial};
use crate::intake::netlink::{AuditMessage, parse_datagram};
use crate::kernel::proc_events::{DeathNotice, message};

/// Reads a datagram of the audit group.
pub(super) fn check_netlink(input: &[u8]) {
    match parse_datagram(input) {
        AuditMessage::Seccomp(payload) => {
            assert!(payload.len() < input.len(), "the header is no part of the payload");
            if let Ok(record) = parse_record(payload) {
                assert_eq!(parse_serial(payload), Some(record.serial));
            }
        }
        AuditMessage::Other(payload) => _ = parse_serial(payload),
        AuditMessage::Foreign => assert!(input.len() < 16, "a whole header is of some type"),
    }
}

/// Reads a message of the proc connector.
pub(super) fn check_proc_event(input: &[u8]) {
    let event = message::event(input);
    match message::parse(input) {
        Some(DeathNotice::CoreDump(notice)) => {
            assert_eq!(event, Some(message::COREDUMP));
            assert_ne!(notice.parent, Some(0));
        }
        Some(DeathNotice::Exit(exit)) => {
            assert_eq!(event, Some(message::EXIT));
            assert_ne!(exit.parent, Some(0));
            let status = message::word(input, message::at::CODE);
            assert_eq!(status.map(|status| status & 0x7f), Some(31), "only deaths by SIGSYS");
        }
        None => {}
    }
}
