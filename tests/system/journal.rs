//! Alerts at their receiver: a socket that decodes the protocol independently, and a real journald.

use crate::support::skip::skip;
use std::fs;
use std::fs::File;
use std::io::{IoSliceMut, Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use harden_why::audit::Action;
use harden_why::diagnosis::{Situation, diagnose_one};
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use harden_why::outlet::journal::{AlertEntry, JournalSendError, JournalSocket};
use harden_why::outlet::{Explanation, alert, message_ids};
use harden_why::policy::{Policy, Settings, UnitFile};
use harden_why::syscalls::{Abi, Arch, Call, CallId, Groups};
use harden_why::units::{Manager, Rung, Unit};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

fn denied(manager: Manager, name: &str) -> Incident {
    let call = Call { arch: Arch(0xc000_003e), id: CallId::Number(41) };
    Incident {
        key: IncidentKey {
            unit: Some(Unit { manager, name: name.parse().unwrap() }),
            event: IncidentEvent::Denial(Denial { call, action: Action::KillProcess }),
            exe: b"/tmp/\nOBJECT_SYSTEMD_UNIT=sshd.service".to_vec(),
            source: SightingSource::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(1),
        last: Moment::At(2),
        sample: Sample { pid: 41343, comm: b"\x1b[2J".to_vec(), ..Sample::default() },
    }
}

/// Two known settings refuse the call.
fn refused_by_two(name: &str) -> AlertEntry {
    let lines = b"[Service]\nSystemCallFilter=~@clock:EPERM\nProtectClock=yes\n";
    let file = UnitFile::parse(Path::new("/etc/systemd/system/x.service"), lines);
    let settings = Settings::new(&name.parse().unwrap(), Some(file), Vec::new());
    let groups = Groups::embedded().with_native(Abi::X86_64);
    let policy = Policy::new(settings, &groups);
    let situation = Situation { policy, drop_in: "/x/zz-harden-why.conf".into(), history: None, programs: Vec::new() };
    let mut incident = denied(Manager::System, name);
    let call = Call::numbered(Arch::X86_64, Abi::X86_64.call_number("clock_settime").unwrap());
    incident.key.event = IncidentEvent::Denial(Denial { call, action: Action::Errno });
    let (finding, remedy) = diagnose_one(incident.clone(), &situation, &groups);
    alert::entry(&incident, Some(5), Some(&Explanation::from_finding(&finding, remedy.as_ref(), |_| true, true)))
}

/// Decodes the fields of an entry as systemd's document describes them.
fn decode(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let (name, value);
        if let Some(equals) = bytes[..line].iter().position(|byte| *byte == b'=') {
            (name, value) = (&bytes[..equals], &bytes[equals + 1..line]);
            bytes = &bytes[line + 1..];
        } else {
            name = &bytes[..line];
            let (length, rest) = bytes[line + 1..].split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            assert_eq!(rest[length], b'\n');
            value = &rest[..length];
            bytes = &rest[length + 1..];
        }
        fields.push((String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
    }
    fields
}

fn as_sent(entry: &AlertEntry) -> Vec<(String, Vec<u8>)> {
    entry.fields().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn alert_follows_the_journal_protocol() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let listener = UnixDatagram::bind(&path).unwrap();
    let journal = JournalSocket::connect(&path).unwrap();
    let mut entry = alert::entry(&denied(Manager::System, "a.service"), Some(1), None);
    entry.push("BINARY", b"a\nMESSAGE_ID=00\n\0=".to_vec());
    journal.send(&entry).unwrap();
    let received = decode(&receive(&listener));
    assert_eq!(received, as_sent(&entry));
    let units: Vec<_> = received.iter().filter(|(name, _)| name == "OBJECT_SYSTEMD_UNIT").collect();
    assert_eq!(units, [&("OBJECT_SYSTEMD_UNIT".to_owned(), b"a.service".to_vec())]);
}

#[test]
fn entry_too_large_for_a_datagram_is_sent_in_a_sealed_memfd() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let listener = UnixDatagram::bind(&path).unwrap();
    let mut entry = AlertEntry::default();
    entry.push("MESSAGE", vec![b'x'; 8 << 20]);
    JournalSocket::connect(&path).unwrap().send(&entry).unwrap();

    let mut buffer = [0; 64];
    let mut iov = [IoSliceMut::new(&mut buffer)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let message = recvmsg::<()>(listener.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::empty()).unwrap();
    assert_eq!(message.bytes, 0);
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else { panic!("no descriptor") };
    // SAFETY: the kernel has just made this descriptor; no other code has it.
    let mut file = unsafe { File::from_raw_fd(fds[0]) };
    let seals = SealFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GET_SEALS).unwrap());
    assert_eq!(seals, SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE);
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(decode(&bytes), as_sent(&entry));
}

#[test]
fn restarted_journal_is_found_and_absent_one_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let listener = UnixDatagram::bind(&path).unwrap();
    let journal = JournalSocket::connect(&path).unwrap();
    let entry = alert::entry(&denied(Manager::System, "a.service"), None, None);
    drop(listener);
    fs::remove_file(&path).unwrap();
    assert!(matches!(journal.send(&entry), Err(JournalSendError::Io { .. })));
    let listener = UnixDatagram::bind(&path).unwrap();
    journal.send(&entry).unwrap();
    assert_eq!(decode(&receive(&listener)), as_sent(&entry));
}

#[test]
fn journal_that_does_not_read_never_blocks() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("socket");
    let _listener = UnixDatagram::bind(&path).unwrap();
    let journal = JournalSocket::connect(&path).unwrap();
    let entry = alert::entry(&denied(Manager::System, "a.service"), None, None);
    let error = (0..100_000).find_map(|_| journal.send(&entry).err()).unwrap();
    assert!(matches!(error, JournalSendError::Behind(_)), "{error}");
}

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// Gives the child its own journald, which leaves audit alone, reads no kernel log and writes nothing to disk.
const OWN_JOURNALD: &str = r#"
    set -e
    mkdir -p /run/systemd /run/log "$HW_DIR/conf"
    printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\n' > "$HW_DIR/conf/journald.conf"
    mount -t tmpfs tmpfs /run/systemd
    mount -t tmpfs tmpfs /run/log
    mount -t tmpfs tmpfs /etc/systemd
    cp "$HW_DIR/conf/journald.conf" /etc/systemd/
    mkdir -p /run/systemd/system /run/systemd/journal
    systemd_journald=$1; shift
    "$systemd_journald" & journald=$!
    for i in $(seq 600); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
    "$@" && status=0 || status=$?
    kill $journald
    exit $status
"#;

#[test]
fn real_journal_shows_alerts_with_the_lines_of_the_unit() {
    let name = "journal::real_journal_shows_alerts_with_the_lines_of_the_unit";
    if std::env::var_os("HW_DIR").is_some() {
        return in_real_journal();
    }
    let able = Path::new(JOURNALD).exists()
        && Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !able {
        return skip("a journald of one's own needs root and systemd-journald");
    }
    let temp = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "bash", "-c", OWN_JOURNALD, "bash", JOURNALD])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("HW_DIR", temp.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
    println!("{said}");
}

/// The messages journalctl shows for these arguments.
fn shown(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("journalctl").args(["--no-pager", "-o", "cat"]).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Tries to read the alerts as `nobody`: by each field that finds them, and from the journal's files.
fn assert_journal_is_hidden_from_users() {
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let fields = [
        "_UID=0",
        "SYSLOG_IDENTIFIER=harden-whyd",
        "OBJECT_SYSTEMD_UNIT=hw-foo.service",
        "OBJECT_SYSTEMD_USER_UNIT=hw-bar.service",
        "OBJECT_SYSTEMD_OWNER_UID=0",
        "HARDEN_WHY_UNIT=hw-two.service",
        "HARDEN_WHY_MANAGER=system",
    ];
    let ids = message_ids::ALL.map(|id| format!("MESSAGE_ID={id}"));
    for field in fields.into_iter().chain(ids.iter().map(String::as_str)) {
        let export = |by: &str, arguments: &[&str]| {
            let output = Command::new(by).args(arguments).args(["journalctl", "-o", "export", field]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(!export("setpriv", &nobody).contains("hw-"), "{field}");
        let is_found = export("env", &[]).contains("hw-");
        let is_id = field.starts_with("MESSAGE_ID") && !field.ends_with(message_ids::DENIAL);
        assert!(is_found || is_id, "root finds no alert by {field}");
    }
    let read = Command::new("setpriv")
        .args(nobody)
        .args(["find", "/run/log/journal", "-type", "f", "-exec", "cat", "{}", "+"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&read.stdout).contains("hw-"), "the journal's files are readable");
}

fn in_real_journal() {
    let journal = JournalSocket::connect(Path::new("/run/systemd/journal/socket")).unwrap();
    let system = alert::entry(&denied(Manager::System, "hw-foo.service"), Some(1), None);
    let mut large = alert::entry(&denied(Manager::System, "hw-large.service"), Some(2), None);
    large.push("HARDEN_WHY_TEST", vec![b'x'; 1 << 20]);
    // `journalctl --user-unit` matches the UID of its caller: root here.
    let user = alert::entry(&denied(Manager::User(0), "hw-bar.service"), Some(3), None);
    // The process lives, so journald looks it up; the alert must not appear under another unit.
    let mut alive = denied(Manager::System, "hw-alive.service");
    alive.sample.pid = std::process::id();
    let IncidentEvent::Denial(denial) = &mut alive.key.event else { unreachable!() };
    denial.action = Action::Log;
    let alive = alert::entry(&alive, Some(4), None);
    let two = refused_by_two("hw-two.service");
    for entry in [&system, &large, &user, &alive, &two] {
        journal.send(entry).unwrap();
    }
    Command::new("journalctl").arg("--sync").status().unwrap();
    let message = |entry: &AlertEntry| String::from_utf8(entry.get("MESSAGE").unwrap().to_vec()).unwrap();
    for _ in 0..600 {
        if !shown(&["-u", "hw-two.service"]).is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(shown(&["-u", "hw-foo.service"]), [message(&system)]);
    assert_eq!(shown(&["-u", "hw-large.service"]), [message(&large)]);
    assert_eq!(shown(&["--user-unit", "hw-bar.service"]), [message(&user)]);
    assert_eq!(shown(&["-u", "hw-alive.service"]), [message(&alive)]);
    assert_eq!(shown(&["-u", "sshd.service"]), Vec::<String>::new());
    assert_journal_is_hidden_from_users();
    let id = format!("MESSAGE_ID={}", message_ids::DENIAL);
    assert_eq!(shown(&[&id]).len(), 4);
    // One field can have several values, and each finds the entry.
    for directive in ["SystemCallFilter", "ProtectClock"] {
        assert_eq!(shown(&[&format!("HARDEN_WHY_DIRECTIVE={directive}")]), [message(&two)]);
    }
    let output = Command::new("journalctl").args(["-o", "export", "-u", "hw-two.service"]).output().unwrap();
    let export = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<&str> = export.lines().filter_map(|line| line.strip_prefix("HARDEN_WHY_")).collect();
    for field in [
        "CAUSE=unit",
        "ORIGIN=/etc/systemd/system/x.service:2",
        "ORIGIN=/etc/systemd/system/x.service:3",
        "REMEDY=SystemCallFilter=clock_settime",
        "REMEDY=ProtectClock=no",
    ] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    let export = Command::new("journalctl").args(["-o", "export", "-u", "hw-alive.service"]).output().unwrap();
    println!("{}", String::from_utf8_lossy(&export.stdout));
}

#[test]
fn journalctl_compiles_the_catalog() {
    let able = Command::new("journalctl").arg("--version").output().is_ok();
    if !able {
        return skip("there is no journalctl");
    }
    let temp = tempfile::tempdir().unwrap();
    let catalog = temp.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&catalog).unwrap();
    fs::create_dir_all(temp.path().join("var/lib/systemd/catalog")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/harden-why.catalog");
    fs::copy(source, catalog.join("harden-why.catalog")).unwrap();
    let root = format!("--root={}", temp.path().display());
    let journalctl = |argument: &str| Command::new("journalctl").args([&root, argument]).output().unwrap();
    let update = journalctl("--update-catalog");
    assert!(update.status.success(), "{}", String::from_utf8_lossy(&update.stderr));
    assert_eq!(String::from_utf8_lossy(&update.stderr), "");
    let listed = String::from_utf8(journalctl("--list-catalog").stdout).unwrap();
    let mut ids: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ids.sort_unstable();
    let mut known = message_ids::ALL;
    known.sort_unstable();
    assert_eq!(ids, known, "{listed}");
}
