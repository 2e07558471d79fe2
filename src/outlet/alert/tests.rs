use super::*;
use crate::audit::Action;
use crate::incidents::{Access, AccessDenial, AccessPath, IncidentKey, Moment, Sample, SightingSource};
use crate::outlet::alert_message::MAX_MESSAGE;
use crate::outlet::alert_summary::Summary;
use crate::outlet::message_ids;
use crate::syscalls::{Arch, Call, CallId};
use crate::units::{Manager, Rung, Unit};
use proptest::prelude::*;

fn denied(manager: Manager, name: &str, action: Action) -> Incident {
    let call = Call::numbered(Arch::X86_64, 41);
    Incident {
        key: IncidentKey {
            unit: Some(Unit { manager, name: name.parse().unwrap() }),
            event: IncidentEvent::Denial(Denial { call, action }),
            exe: b"/usr/bin/ncat".to_vec(),
            source: SightingSource::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 3,
        first: Moment::At(1),
        last: Moment::At(2),
        sample: Sample { pid: 41343, comm: b"ncat\n".to_vec(), ..Sample::default() },
    }
}

/// A call that failed with EPERM.
fn denied_access(access: Access) -> Incident {
    let mut incident = denied(Manager::System, "a.service", Action::Errno);
    let call = Call::numbered(Arch::X86_64, 2);
    incident.key.event = IncidentEvent::Access(AccessDenial { call, errno: libc::EPERM, access });
    incident
}

fn fields(entry: &AlertEntry) -> Vec<String> {
    entry.fields().map(|(name, value)| format!("{name}={}", str::from_utf8(value).unwrap())).collect()
}

#[test]
fn alert_of_kill_in_system_unit_has_all_fields() {
    let incident = denied(Manager::System, "remote-ssh-agent.service", Action::KillProcess);
    assert_eq!(
        fields(&entry(&incident, Some(7), None)),
        [
            "MESSAGE=remote-ssh-agent.service: /usr/bin/ncat (pid 41343) was killed by SIGSYS for calling socket, 3 times so far; \
             see 'harden-why remote-ssh-agent.service'",
            "MESSAGE_ID=08f099b23cdb4d1399f57dcd22ef4be3",
            "PRIORITY=3",
            "SYSLOG_IDENTIFIER=harden-whyd",
            "OBJECT_SYSTEMD_UNIT=remote-ssh-agent.service",
            "HARDEN_WHY_UNIT=remote-ssh-agent.service",
            "HARDEN_WHY_MANAGER=system",
            "HARDEN_WHY_EVIDENCE=own-cgroup",
            "HARDEN_WHY_CALL=socket",
            "HARDEN_WHY_CALL_NUMBER=41",
            "HARDEN_WHY_ARCH=x86_64",
            "HARDEN_WHY_ACTION=kill_process",
            "HARDEN_WHY_PID=41343",
            "HARDEN_WHY_EXE=/usr/bin/ncat",
            "HARDEN_WHY_COMM=ncat\\x0a",
            "HARDEN_WHY_COUNT=3",
            "HARDEN_WHY_INCIDENT=7",
        ]
    );
}

#[test]
fn alert_of_access_names_what_is_withheld_and_is_short_whatever_the_path() {
    let alert = |path: &[u8]| {
        let incident = denied_access(Access::ReadOnlyPath(AccessPath::new(path)));
        fields(&entry(&incident, None, None))
    };
    let fields = alert(b"/var/lib/x");
    let expected = "MESSAGE=a.service: /usr/bin/ncat (pid 41343) called open, which failed with EPERM: \
                    /var/lib/x is read-only for the unit, 3 times so far; see 'harden-why a.service'";
    assert_eq!(fields[0], expected);
    assert_eq!(fields[1], format!("MESSAGE_ID={ACCESS_DENIAL}"));
    for field in ["HARDEN_WHY_ERRNO=EPERM", "HARDEN_WHY_ACCESS=read-only-path", "HARDEN_WHY_PATH=/var/lib/x"] {
        assert!(fields.iter().any(|other| other == field), "{field}: {fields:?}");
    }
    let hostile = alert(&[b"/\n\x1b".as_slice(), &[b'x'; 4096]].concat());
    assert!(hostile[0].chars().count() <= MAX_MESSAGE + 8 && !hostile[0].contains('\n'), "{}", hostile[0]);
}

#[test]
fn alert_of_logged_call_in_user_unit_is_warning() {
    let incident = denied(Manager::User(1000), "a.service", Action::Log);
    let entry = entry(&incident, None, None);
    let get = |name| entry.get(name).map(|value| str::from_utf8(value).unwrap());
    assert_eq!((get("MESSAGE_ID"), get("PRIORITY")), (Some(LOGGED), Some("4")));
    assert_eq!(get("OBJECT_SYSTEMD_USER_UNIT"), Some("a.service"));
    assert_eq!(get("OBJECT_SYSTEMD_OWNER_UID"), Some("1000"));
    assert_eq!(get("OBJECT_SYSTEMD_UNIT"), None);
    assert_eq!(get("HARDEN_WHY_PID"), Some("41343"));
    assert_eq!(get("HARDEN_WHY_ARCH"), Some("x86_64"));
    let message = get("MESSAGE").unwrap();
    assert!(message.starts_with("a.service of user 1000: /usr/bin/ncat (pid 41343) made the call socket"));
}

#[test]
fn call_is_named_in_its_abi_or_by_its_number() {
    let word = |arch, number| {
        let mut incident = denied(Manager::System, "a.service", Action::KillProcess);
        let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
        denial.call = Call::numbered(arch, number);
        let entry = entry(&incident, None, None);
        ["HARDEN_WHY_CALL", "HARDEN_WHY_ARCH"].map(|name| String::from_utf8(entry.get(name).unwrap().into()).unwrap())
    };
    assert_eq!(word(Arch::I386, 102), ["socketcall", "i386"]);
    assert_eq!(word(Arch::X86_64, 0x4000_0001), ["write", "x32"]);
    assert_eq!(word(Arch::X86_64, 9999), ["number 9999", "x86_64"]);
    assert_eq!(word(Arch::X86_64, u32::MAX), ["number -1", "x86_64"]);
    assert_eq!(word(Arch(0xdead), 41), ["number 41", "dead"]);
}

#[test]
fn alert_of_unrecorded_death_names_no_call() {
    let mut incident = denied(Manager::System, "a.service", Action::Log);
    incident.key.event = IncidentEvent::UnrecordedDeath;
    let entry = entry(&incident, None, None);
    assert_eq!(entry.get("MESSAGE_ID"), Some(UNRECORDED_DEATH.as_bytes()));
    assert_eq!(entry.get("HARDEN_WHY_CALL"), None);
}

#[test]
fn alert_has_no_object_pid() {
    for action in [Action::KillProcess, Action::Trap, Action::Errno, Action::Log] {
        let entry = entry(&denied(Manager::System, "a.service", action), None, None);
        assert_eq!(entry.get("OBJECT_PID"), None, "{action}");
        assert!(entry.get("HARDEN_WHY_PID").is_some());
    }
}

#[test]
fn command_of_message_reaches_a_shell_whole() {
    for (name, argument) in [("mnt-my\\x2dbackup.mount", "'mnt-my\\x2dbackup.mount'"), ("-.mount", "-- -.mount")] {
        let message = message(&denied(Manager::System, name, Action::Errno), None);
        assert!(message.ends_with(&format!("; see 'harden-why {argument}'")), "{message}");
    }
}

#[test]
fn long_message_is_shortened() {
    let mut incident = denied(Manager::User(u32::MAX), &format!("{}.service", "u".repeat(240)), Action::Log);
    incident.key.exe = [b"/".repeat(4000), b"tail".to_vec()].concat();
    incident.sample.pid = u32::MAX;
    let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
    denial.call.id = CallId::Name("c".repeat(300).into());
    let message = message(&incident, None);
    assert_eq!(message.chars().count(), MAX_MESSAGE);
    assert!(message.ends_with("; see 'harden-why'"), "{message}");
    assert!(message.contains("/tail (pid"), "{message}");
}

#[test]
fn catalog_explains_every_message_id() {
    let catalog = include_str!("../../../systemd/harden-why.catalog");
    let mut explained: Vec<_> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    explained.sort_unstable();
    let mut known = message_ids::ALL;
    known.sort_unstable();
    assert_eq!(explained, known);
}

#[test]
fn catalog_names_only_fields_of_its_entries() {
    let catalog = include_str!("../../../systemd/harden-why.catalog");
    let mut silent = denied(Manager::System, "a.service", Action::Errno);
    silent.key.event = IncidentEvent::UnrecordedDeath;
    let incidents = [
        denied(Manager::System, "a.service", Action::Errno),
        denied(Manager::User(1), "a.service", Action::Log),
        silent,
        denied_access(Access::UserNamespace),
    ];
    for incident in incidents {
        let entry = entry(&incident, None, None);
        let id = str::from_utf8(entry.get("MESSAGE_ID").unwrap()).unwrap();
        let text = catalog.split("\n-- ").find(|text| text.starts_with(id)).unwrap();
        let named: Vec<_> = text.split('@').skip(1).step_by(2).collect();
        assert!(!named.is_empty());
        for name in named {
            assert!(entry.get(name).is_some(), "{name} of {id}");
        }
    }
}

#[test]
fn summary_names_first_units() {
    let mut summary = Summary::default();
    for number in 0..9 {
        summary.add(&denied(Manager::System, &format!("u{}.service", number % 2), Action::KillProcess));
    }
    let message = |summary: &Summary| String::from_utf8(summary.entry().get("MESSAGE").unwrap().to_vec()).unwrap();
    assert_eq!(
        message(&summary),
        "9 more denials of u0.service, u1.service without an alert of their own; see 'harden-why'"
    );
    assert_eq!(summary.entry().get("OBJECT_SYSTEMD_UNIT"), None);
    for number in 0..9 {
        summary.add(&denied(Manager::User(1), &format!("{}{number}.service", "long".repeat(60)), Action::Errno));
    }
    assert!(message(&summary).contains("and other units") && message(&summary).chars().count() <= MAX_MESSAGE);
    let mut one = Summary::default();
    one.add(&denied(Manager::System, "a.service", Action::Errno));
    assert_eq!(one.entry().get("OBJECT_SYSTEMD_UNIT"), Some(&b"a.service"[..]));
}

#[test]
fn alert_of_a_number_without_a_name_says_that_it_stands_for_others() {
    let mut incident = denied(Manager::System, "a.service", Action::KillProcess);
    let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
    denial.call.id = CallId::Number(1_000_000);
    let message = message(&incident, None);
    assert!(message.contains("for calling number 1000000 or another unnamed one,"), "{message}");
}

proptest! {
    #[test]
    fn bytes_of_process_are_escaped_and_message_is_bounded(exe: Vec<u8>, comm: Vec<u8>, call in "\\PC*|.*", pid: u32) {
        let mut incident = denied(Manager::System, "a.service", Action::Errno);
        incident.key.exe = exe;
        incident.sample.comm = comm;
        incident.sample.pid = pid;
        let IncidentEvent::Denial(denial) = &mut incident.key.event else { unreachable!() };
        denial.call.id = CallId::Name(call.into());
        let entry = entry(&incident, None, None);
        for (name, value) in entry.fields() {
            let value = str::from_utf8(value).unwrap();
            prop_assert!(!value.chars().any(char::is_control), "{} {:?}", name, value);
            prop_assert!(name.len() <= 64 && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        }
        let message = str::from_utf8(entry.get("MESSAGE").unwrap()).unwrap();
        prop_assert!(message.chars().count() <= MAX_MESSAGE);
    }
}
