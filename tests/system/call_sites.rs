//! Where killed processes made their calls, as the daemon stores and reports it.

use crate::support::daemon::{Daemon, Journal, PROGRAM, listing};
use crate::support::manager::TestManager;
use crate::support::skip::skip;
use harden_why::incidents::Incident;
use harden_why::kernel::call_sites::CallSites;
use harden_why::syscalls::Arch;
use std::fs;

fn is_of_unit(incident: &Incident) -> bool {
    incident.key.unit.as_ref().is_some_and(|unit| unit.name.as_str() == "copies.service")
}

#[test]
fn incident_of_every_killed_process_has_its_call_site() {
    if let Err(error) = CallSites::open() {
        return skip(&error.to_string());
    }
    let Some(manager) = TestManager::start() else { return };
    let state = manager.base().join("daemon");
    let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &state);
    let journal = Journal::of(&daemon);
    let directory = manager.base().join("copies");
    fs::create_dir(&directory).unwrap();
    let script = "cd \"$1\"; for i in $(seq 40); do cp /bin/uname uname-$i; ./uname-$i; done 2>/dev/null; sleep 60";
    fs::write(directory.join("script"), script).unwrap();
    let command = format!("ExecStart=/bin/sh {0}/script {0}", directory.display());
    manager.write("copies.service", &format!("[Service]\nSlice=system.slice\nSystemCallFilter=~uname\n{command}\n"));
    manager.reload();
    assert!(manager.start_unit("copies.service"));
    let last = directory.join("uname-40").into_os_string().into_encoded_bytes();
    daemon.wait_for_incident(|incident| is_of_unit(incident) && incident.key.exe == last);
    let incidents: Vec<Incident> = daemon.stored().into_iter().filter(is_of_unit).collect();
    assert_eq!(incidents.len(), 40, "{}", listing(&incidents));
    for incident in &incidents {
        let site = incident.sample.call_site.as_ref().unwrap_or_else(|| panic!("no call site: {incident:?}"));
        assert_eq!((site.code.file_name(), site.code.build_id.len()), (&b"libc.so.6"[..], 20), "{site:?}");
        if Arch::native() == Arch::X86_64 {
            let caller = site.caller.as_ref().unwrap_or_else(|| panic!("no caller: {site:?}"));
            assert_eq!((&caller.path, caller.build_id.len()), (&incident.key.exe, 20), "{site:?}");
        }
    }
    let alert = journal.next("OBJECT_SYSTEMD_UNIT=copies.service");
    assert!(
        alert.fields.iter().any(|field| field.ends_with("/libc.so.6") && field.starts_with("HARDEN_WHY_CODE_FILE="))
    );
    daemon.stop();
}
