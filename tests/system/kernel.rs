//! The running kernel's records of filters that children of these tests violate, received as the
//! daemon receives them.

use crate::support::child::{PATIENCE, call, listen, payload_of, violate, wait};
use crate::support::skip::skip;
use harden_why::audit::{Action, ArchField, CallField, Record, parse_record};
use harden_why::host::Host;
use harden_why::incidents::{Denial, IncidentEvent, Moment, Sighting};
use harden_why::intake::netlink::{AuditMessage, ReceiveError};
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::pipeline::{Pipeline, RecordOutcome};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::Evidence;
use nix::sys::socket::{MsgFlags, NetlinkAddr, getsockname, sendto};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A number that no table contains.
const UNKNOWN: u32 = 9999;
/// The errno of a refused call.
const ERRNO: u16 = 42;
/// `__X32_SYSCALL_BIT`.
const X32_BIT: u32 = 0x4000_0000;

/// A machine that answers no query.
struct Nobody;

impl Host for Nobody {
    fn evidence_key(&mut self, _: &Record<'_>) -> Option<u64> {
        None
    }

    fn collect_evidence(&mut self, _: &Record<'_>) -> Vec<Evidence> {
        Vec::new()
    }
}

/// The pipeline's sighting of a payload.
fn sighted(payload: &[u8]) -> Sighting {
    let RecordOutcome::Unattributed(sighting) =
        Pipeline::new(Nobody, 4).add_record(&parse_record(payload).unwrap(), None)
    else {
        panic!("nobody told the unit");
    };
    sighting.into_sighting()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn action_logged_by_the_kernel_is_received() {
    let Some(mut audit) = listen() else { return };
    // The signal in the record, and whether the child died of one.
    let actions = [
        (Action::KillProcess, libc::SIGSYS, true),
        (Action::KillThread, libc::SIGSYS, true),
        (Action::Trap, 0, true),
        (Action::Errno, 0, false),
        (Action::UserNotif, 0, false),
        (Action::Trace, 0, false),
        (Action::Log, 0, false),
    ];
    for (action, signal, dies) in actions {
        let before = now();
        let number = u32::try_from(libc::SYS_getppid).unwrap();
        let filter = SeccompFilter::new(Arch::native(), &[(number, return_value(action, ERRNO))], ALLOW);
        let (pid, status) = violate(filter, c"plain", call(number));
        assert_eq!(status.signal(), dies.then_some(libc::SIGSYS), "{action}: {status}");
        assert!(dies || status.success(), "{action}: {status}");

        let payload = payload_of(&mut audit, pid);
        let record = parse_record(&payload).unwrap();
        assert_eq!(record.action, action);
        assert_eq!((record.arch, record.call), (ArchField::Token(Arch::native().0), CallField::Number(number)));
        assert_eq!((record.signal, record.compat), (signal, Some(false)), "{action}");
        assert!(record.serial != 0 && record.ip != 0);

        let sighting = sighted(&payload);
        let denial = Denial { call: Call::numbered(Arch::native(), number), action };
        assert_eq!(denial.call.name(), Some("getppid"));
        assert_eq!(sighting.key.event, IncidentEvent::Denial(denial));
        assert_eq!(sighting.key.exe, std::env::current_exe().unwrap().as_os_str().as_bytes());
        assert_eq!((sighting.sample.pid, sighting.sample.comm.as_slice()), (pid, &b"plain"[..]));
        assert_eq!(*sighting.sample.uid, *nix::unistd::getuid().to_string());
        let Moment::At(at) = sighting.at else { panic!("{:?}", sighting.at) };
        assert!((before - 1000..=now() + 1000).contains(&at), "{before} {at}");
    }
}

#[test]
fn name_chosen_by_a_process_is_received_unchanged() {
    let Some(mut audit) = listen() else { return };
    for comm in [c"\x1b[2J\x07\r\n", c"a \"b\" pid=1", c"\xff\xfe'\\", c"code=0x7ffc0000", c"ABCDEF01", c"(null)", c" "]
    {
        let filter = SeccompFilter::new(Arch::native(), &[(UNKNOWN, return_value(Action::Errno, ERRNO))], ALLOW);
        let (pid, status) = violate(filter, comm, call(UNKNOWN));
        assert!(status.success());
        let sighting = sighted(&payload_of(&mut audit, pid));
        assert_eq!(sighting.sample.comm, comm.to_bytes());
        assert_eq!(sighting.sample.pid, pid);
        let IncidentEvent::Denial(denial) = sighting.key.event else { unreachable!() };
        assert_eq!(denial.action, Action::Errno);
    }
}

#[test]
fn any_call_number_is_received() {
    let Some(mut audit) = listen() else { return };
    for number in [UNKNOWN, u32::MAX, i32::MAX.unsigned_abs(), 0x8000_0000] {
        let filter = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::KillProcess, 0))], ALLOW);
        let (pid, status) = violate(filter, c"any", call(number));
        assert_eq!(status.signal(), Some(libc::SIGSYS), "{number:#x}");
        let IncidentEvent::Denial(denial) = sighted(&payload_of(&mut audit, pid)).key.event else { unreachable!() };
        assert_eq!((denial.call.number(), denial.call.name()), (Some(number), None));
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn call_of_x32_is_one_of_x86_64_with_a_bit() {
    let Some(mut audit) = listen() else { return };
    let number = X32_BIT | u32::try_from(libc::SYS_getpid).unwrap();
    let filter = SeccompFilter::new(Arch::X86_64, &[(number, return_value(Action::KillProcess, 0))], ALLOW);
    let (pid, status) = violate(filter, c"x32", call(number));
    assert_eq!(status.signal(), Some(libc::SIGSYS));
    let IncidentEvent::Denial(denial) = sighted(&payload_of(&mut audit, pid)).key.event else { unreachable!() };
    assert_eq!(denial.call.name(), Some("getpid"));
    assert_eq!(denial.call.abi().unwrap().name(), "x32");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn call_by_a_32_bit_entry_is_known_by_its_architecture() {
    let Some(mut audit) = listen() else { return };
    let int_0x80 = || {
        // SAFETY: getppid of the 32-bit table takes no argument; the registers that it may change are listed.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("rax") 64_u64 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
    };
    let filter = SeccompFilter::new(Arch::I386, &[(64, return_value(Action::KillProcess, 0))], ALLOW);
    let (pid, status) = violate(filter, c"old", int_0x80);
    if status.signal() == Some(libc::SIGSEGV) {
        return skip("this kernel takes no 32-bit calls");
    }
    assert_eq!(status.signal(), Some(libc::SIGSYS));
    let payload = payload_of(&mut audit, pid);
    let record = parse_record(&payload).unwrap();
    assert_eq!((record.arch, record.compat), (ArchField::Token(Arch::I386.0), Some(true)));
    let IncidentEvent::Denial(denial) = sighted(&payload).key.event else { unreachable!() };
    assert_eq!((denial.call.arch, denial.call.name()), (Arch::I386, Some("getppid")));
}

#[test]
fn message_not_from_the_kernel_is_ignored() {
    let Some(mut audit) = listen() else { return };
    let address: NetlinkAddr = getsockname(audit.as_raw_fd()).unwrap();
    let forger = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_AUDIT).unwrap();
    let pid = std::process::id();
    let body = format!(
        "audit({}.000:1): auid=0 uid=0 gid=0 ses=1 pid={pid} comm=\"forged\" exe=\"/forged\" sig=31 arch=c000003e \
         syscall=41 compat=0 ip=0x1 code=0x80000000",
        now() / 1000
    );
    parse_record(body.as_bytes()).unwrap();
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut message = [length.to_ne_bytes(), 1326_u32.to_ne_bytes(), [0; 4], pid.to_ne_bytes()].concat();
    message.extend(body.as_bytes());
    if let Err(error) = sendto(forger.as_raw_fd(), &message, &address, MsgFlags::empty()) {
        return skip(&format!("not even root can forge records here: {error}"));
    }
    // A real record after it shows that the forged one could have been received.
    let filter = SeccompFilter::new(Arch::native(), &[(UNKNOWN, return_value(Action::Errno, ERRNO))], ALLOW);
    let (real, _) = violate(filter, c"real", call(UNKNOWN));
    let deadline = Instant::now() + PATIENCE;
    let mut foreign = 0;
    loop {
        match audit.receive() {
            Ok(Some(AuditMessage::Foreign)) => foreign += 1,
            Ok(Some(AuditMessage::Seccomp(payload))) => {
                let seen = parse_record(payload).unwrap().pid;
                assert_ne!(seen, pid, "a forged record was believed");
                if seen == real {
                    break;
                }
            }
            Ok(Some(AuditMessage::Other(_))) | Err(ReceiveError::Overrun) => {}
            Ok(None) => {
                assert!(Instant::now() < deadline, "no record of {real}");
                wait(&audit);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(foreign, 1);
}
