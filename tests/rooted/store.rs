//! The store on a real file system: it returns what was written and loses nothing silently.

use crate::support;
use crate::support::skip::skip;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use harden_why::audit::Action;
use harden_why::incidents::store::{FILE, MAX_COMM, MAX_EXE, MAX_SUBJECT, MAX_WORD, SCHEMA};
use harden_why::incidents::{
    Access, AccessDenial, AccessPath, CallSite, CapabilityLack, CodePlace, Denial, Evicted, Incident, IncidentEvent,
    IncidentKey, Moment, Parent, Query, Sample, SightingSource, Store, StoreError, Stored, UnitSummary,
};
use harden_why::policy::Capability;
use harden_why::syscalls::{Arch, Call, CallId};
use harden_why::units::{Manager, Rung, Unit};
use proptest::prelude::*;

const HOSTILE: &[u8] = b"\0'\"; DROP TABLE incident; --\x1b[2J\n\\ \xff\xfe caf\xc3\xa9";

fn unit(manager: Manager, name: &str) -> Unit {
    Unit { manager, name: name.parse().unwrap() }
}

fn denial(unit: Option<Unit>, number: u32) -> Incident {
    let call = Call { arch: Arch(0xc000_003e), id: CallId::Number(number) };
    Incident {
        rung: unit.as_ref().map(|_| Rung::OwnCgroup),
        key: IncidentKey {
            unit,
            event: IncidentEvent::Denial(Denial { call, action: Action::KillProcess }),
            exe: b"/bin/x".to_vec(),
            source: SightingSource::Audit,
        },
        count: 1,
        first: Moment::At(1_000),
        last: Moment::At(1_000),
        sample: Sample { pid: 7, comm: b"x".to_vec(), uid: "0".into(), ip: u64::MAX, ..Sample::default() },
    }
}

fn all(store: &Store) -> Vec<Incident> {
    store.incidents(&Query::default()).unwrap().into_iter().map(|stored| stored.incident).collect()
}

/// A call site of whatever numbers, with a path of whatever bytes.
fn call_site(number: u64) -> CallSite {
    let file = (number, number / 2);
    let code = CodePlace { offset: number, build_id: vec![7; 20], file, path: HOSTILE.to_vec(), function: Vec::new() };
    let caller = CodePlace { build_id: Vec::new(), ..code.clone() };
    CallSite { code, caller: number.is_multiple_of(2).then_some(caller), further: Vec::new() }
}

/// A fresh state directory below a temporary one.
fn temp() -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    (temp, dir)
}

/// Runs one test of this program again as a child, alone, with `HW_DIR` set.
fn myself(wrapper: &[&str], test: &str, dir: &Path) -> Command {
    let me = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&me),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&me);
            command
        }
    };
    command.args(["--exact", test, "--nocapture", "--include-ignored"]).env("HW_DIR", dir);
    command
}

fn may_mount() -> bool {
    Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success())
}

/// The directory of a child that [`in_own_mounts`] started.
fn child_dir() -> Option<std::path::PathBuf> {
    std::env::var_os("HW_DIR").map(Into::into)
}

/// Mounts on the child's directory with a shell line, then runs the named test there.
fn in_own_mounts(line: &str, test: &str, dir: &Path) {
    let script = format!("{line} && exec \"$@\"");
    let output = myself(&["unshare", "--mount", "sh", "-c", &script, "sh"], test, dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn hostile_bytes_are_returned_as_written() {
    let (_temp, dir) = temp();
    let mut hostile = denial(Some(unit(Manager::User(1000), "a@b\\x2d.service")), 1);
    hostile.key.exe = HOSTILE.to_vec();
    hostile.sample.comm = HOSTILE[..MAX_COMM].to_vec();
    hostile.sample.subject = HOSTILE.to_vec();
    hostile.sample.uid = "\0'x\"\u{202e}".into();
    hostile.sample.parent = Some(Parent { pid: u32::MAX, comm: HOSTILE[..MAX_COMM].to_vec() });
    hostile.first = Moment::Text("\0 01/08/2022'".into());
    hostile.last = Moment::Unknown;
    let IncidentEvent::Denial(denial) = &mut hostile.key.event else { unreachable!() };
    denial.call.id = CallId::Name("'; --\0".into());
    denial.action = Action::Other(77);
    let mut store = Store::open(&dir).unwrap();
    store.record(std::slice::from_ref(&hostile)).unwrap();
    drop(store);
    assert_eq!(all(&Store::open_read_only(&dir).unwrap()), [hostile]);
}

fn access(call: u32, access: Access) -> Incident {
    let mut incident = denial(Some(unit(Manager::System, "a.service")), call);
    let call = Call { arch: Arch(0xc000_003e), id: CallId::Number(call) };
    incident.key.event = IncidentEvent::Access(AccessDenial { call, errno: 30, access });
    incident
}

#[test]
fn accesses_of_different_paths_are_different_incidents() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let of = |path: &[u8]| access(2, Access::ReadOnlyPath(AccessPath::new(path)));
    let long = vec![b'x'; 10_000];
    store.record(&[of(b"/a"), of(b"/b"), of(b"/a"), of(b"/\xff\x1b[2J\n'"), of(&long)]).unwrap();
    let stored = all(&store);
    let counts: Vec<(u64, usize)> =
        stored.iter().map(|one| (one.count, one.access().unwrap().access.path().unwrap().as_bytes().len())).collect();
    assert_eq!(counts, [(1, AccessPath::MOST), (1, 8), (1, 2), (2, 2)]);
    assert_eq!(stored[1].key, of(b"/\xff\x1b[2J\n'").key);
}

#[test]
fn sightings_add_up() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let mut first = denial(Some(unit(Manager::System, "a.service")), 41);
    first.rung = Some(Rung::ParentCgroup);
    first.count = 3;
    let mut second = first.clone();
    second.count = 4;
    second.first = Moment::At(5_000);
    second.last = Moment::At(6_000);
    second.sample.pid = 8;
    second.rung = Some(Rung::OwnCgroup);
    let mut third = second.clone();
    third.rung = Some(Rung::Executable);
    third.count = u64::MAX;
    third.sample = Sample { pid: 9, comm: b"guess".to_vec(), ..Sample::default() };
    let other = denial(Some(unit(Manager::User(0), "a.service")), 41);

    let ids = store.record(&[first.clone(), other.clone(), second.clone()]).unwrap();
    assert_eq!(ids[0].id, ids[2].id);
    assert_ne!(ids[0].id, ids[1].id);
    assert_eq!(ids.iter().map(|recorded| recorded.new).collect::<Vec<_>>(), [true, true, false]);
    let folded = Incident { count: 7, first: first.first.clone(), ..second };
    assert_eq!(all(&store), [folded.clone(), other.clone()]);

    let back = Incident { first: Moment::At(500), ..third.clone() };
    store.record(&[third]).unwrap();
    let most = Incident { count: u64::try_from(i64::MAX).unwrap(), ..folded };
    assert_eq!(all(&store), [most.clone(), other.clone()]);
    store.record(&[back]).unwrap();
    assert_eq!(all(&store), [Incident { first: Moment::At(500), ..most }, other], "the clock was set back");
}

#[test]
fn silent_death_and_unattributed_denial_are_separate_rows() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let mut death = denial(Some(unit(Manager::System, "a.service")), 0);
    death.key.event = IncidentEvent::UnrecordedDeath;
    let nobody = denial(None, 0);
    store.record(&[death.clone(), nobody.clone()]).unwrap();
    store.record(&[death.clone(), nobody.clone()]).unwrap();
    let twice = |incident: Incident| Incident { count: 2, ..incident };
    assert_eq!(all(&store), [twice(nobody), twice(death)]);
}

#[test]
fn text_is_cut_to_its_bounds() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let mut long = denial(None, 0);
    long.key.exe = vec![b'e'; MAX_EXE + 1];
    long.sample.comm = vec![b'c'; MAX_COMM + 1];
    long.sample.subject = vec![b's'; MAX_SUBJECT + 1];
    long.sample.uid = format!("{}\u{e9}", "u".repeat(MAX_WORD - 1)).into();
    store.record(&[long]).unwrap();
    let kept = all(&store).remove(0);
    assert_eq!((kept.key.exe.len(), kept.sample.comm.len(), kept.sample.subject.len()), (4096, 16, 4096));
    assert_eq!(kept.sample.uid.len(), MAX_WORD - 1, "no half character is kept");
}

#[test]
fn queries_select_and_page_newest_first() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let at = |number: u32, manager, name: &str| Incident {
        last: Moment::At(i64::from(number)),
        ..denial(Some(unit(manager, name)), number)
    };
    let incidents = [
        at(1, Manager::System, "a.service"),
        at(2, Manager::User(1000), "a.service"),
        at(3, Manager::System, "b.service"),
        Incident { last: Moment::Unknown, ..denial(None, 4) },
        at(5, Manager::System, "a.service"),
    ];
    store.record(&incidents).unwrap();
    let calls = |query: &Query| -> Vec<u32> {
        let number = |stored: Stored| match stored.incident.key.event {
            IncidentEvent::Denial(Denial { call: Call { id: CallId::Number(number), .. }, .. }) => number,
            _ => unreachable!(),
        };
        store.incidents(query).unwrap().into_iter().map(number).collect()
    };
    let a = Some("a.service".parse().unwrap());
    assert_eq!(calls(&Query::default()), [5, 3, 2, 1, 4]);
    assert_eq!(calls(&Query { unit: a.clone(), ..Query::default() }), [5, 2, 1]);
    assert_eq!(calls(&Query { unit: a, manager: Some(Manager::User(1000)), ..Query::default() }), [2]);
    assert_eq!(calls(&Query { unknown: true, ..Query::default() }), [4]);
    assert_eq!(calls(&Query { since: Some(3), ..Query::default() }), [5, 3]);
    assert_eq!(calls(&Query { limit: Some(2), offset: 1, ..Query::default() }), [3, 2]);

    let summary = |unit, incidents, last| UnitSummary { unit, incidents, count: incidents, last };
    let units = store.units(&Query::default()).unwrap();
    let expected = [
        summary(Some(unit(Manager::System, "a.service")), 2, Moment::At(5)),
        summary(Some(unit(Manager::System, "b.service")), 1, Moment::At(3)),
        summary(Some(unit(Manager::User(1000), "a.service")), 1, Moment::At(2)),
        summary(None, 1, Moment::Unknown),
    ];
    assert_eq!(units, expected);
    let own = store.units(&Query { manager: Some(Manager::User(1000)), ..Query::default() }).unwrap();
    assert_eq!(own, expected[2..3]);
}

#[test]
fn old_and_surplus_incidents_are_forgotten_and_free_their_space() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let many: Vec<_> = (0..5_000).map(|n| Incident { last: Moment::At(n.into()), ..denial(None, n) }).collect();
    store.record(&many).unwrap();
    assert_eq!(store.prune(0..1_000, 100).unwrap(), 4_900);
    let left = all(&store);
    assert_eq!((left.len(), &left[0].last, &left[99].last), (100, &Moment::At(4_999), &Moment::At(4_900)));
    drop(store);
    let size = fs::metadata(dir.join(FILE)).unwrap().len();
    assert!(size < 100_000, "{size} bytes for 100 rows");
}

#[test]
fn frequent_incident_outlasts_rare_ones_and_losses_are_reported() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let at = |number: u32, count| Incident {
        count,
        last: Moment::At(number.into()),
        ..denial(Some(unit(Manager::System, "a.service")), number)
    };
    store.record(&[at(1, 1_000), at(2, 2), at(3, 1), at(4, 1), at(5, 1), at(6, 1)]).unwrap();
    assert_eq!(store.evicted().unwrap(), Evicted::default());
    assert_eq!(store.prune(0..0, 4).unwrap(), 2);
    let left = |store: &Store| all(store).iter().map(|incident| incident.last.to_string()).collect::<Vec<_>>();
    assert_eq!(left(&store), ["6", "5", "2", "1"], "3 and 4 are as rare as 5 and 6, and older");
    assert_eq!(store.evicted().unwrap(), Evicted { incidents: 2, sightings: 2, last: 4 });
    store.prune(0..0, 3).unwrap();
    let forgotten = Evicted { incidents: 3, sightings: 3, last: 5 };
    assert_eq!(store.evicted().unwrap(), forgotten);
    store.prune(0..3, 3).unwrap();
    assert_eq!(left(&store), ["6"], "older than was asked for");
    drop(store);
    assert_eq!(Store::open_read_only(&dir).unwrap().evicted().unwrap(), forgotten, "age is not among it");
}

#[test]
fn store_has_one_writer() {
    let (_temp, dir) = temp();
    let store = Store::open(&dir).unwrap();
    for refused in [Store::open(&dir).unwrap_err(), Store::open_or_replace(&dir).unwrap_err()] {
        assert!(matches!(refused, StoreError::InUse { .. }), "{refused:?}");
        assert!(refused.to_string().contains("another harden-whyd"), "{refused}");
    }
    Store::open_read_only(&dir).unwrap();
    drop(store);
    Store::open(&dir).unwrap();
}

/// The tables of format 1.
const FORMAT_1: &str = "
    PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
    CREATE TABLE incident (
        id INTEGER PRIMARY KEY AUTOINCREMENT, manager TEXT NOT NULL, unit TEXT NOT NULL, event TEXT NOT NULL,
        arch INTEGER NOT NULL, call_number INTEGER NOT NULL, call_name BLOB NOT NULL, action TEXT NOT NULL,
        exe BLOB NOT NULL, rung TEXT NOT NULL, count INTEGER NOT NULL CHECK (count >= 0), first_ms INTEGER,
        first_said BLOB, last_ms INTEGER, last_said BLOB, pid INTEGER NOT NULL, comm BLOB NOT NULL, uid BLOB NOT NULL,
        ip INTEGER NOT NULL, subject BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX incident_key ON incident (unit, manager, event, arch, call_number, call_name, action, exe);
    CREATE INDEX incident_newest ON incident (last_ms, id);
    CREATE INDEX incident_unit ON incident (unit, manager, last_ms, count);
    PRAGMA application_id = 0x68647779; PRAGMA user_version = 1;
    INSERT INTO incident VALUES (7, 'system', 'a.service', 'denial', 3221225534, 41, x'', 'kill_process', x'2f62696e2f78',
        'own-cgroup', 5, 1000, NULL, 1000, NULL, 7, x'78', x'30', -1, x'')";

#[test]
fn format_1_is_migrated_with_all_its_content() {
    let (_temp, dir) = temp();
    fs::create_dir(&dir).unwrap();
    let earlier = rusqlite::Connection::open(dir.join(FILE)).unwrap();
    earlier.execute_batch(FORMAT_1).unwrap();
    drop(earlier);
    let error = Store::open_read_only(&dir).unwrap_err();
    assert!(error.to_string().contains("start harden-whyd"), "{error}");
    let mut store = Store::open(&dir).unwrap();
    let kept = Incident { count: 5, ..denial(Some(unit(Manager::System, "a.service")), 41) };
    assert_eq!(all(&store), std::slice::from_ref(&kept));
    assert_eq!(store.record(std::slice::from_ref(&kept)).unwrap()[0].id, 7);
    drop(store);
    assert_eq!(all(&Store::open_read_only(&dir).unwrap()), [Incident { count: 10, ..kept }]);
}

/// Migrates from format 1 to 2, as that version did.
const FORMAT_2: &str = "
    ALTER TABLE incident ADD COLUMN parent_pid INTEGER;
    ALTER TABLE incident ADD COLUMN parent_comm BLOB;
    CREATE TABLE forgotten (
        only INTEGER PRIMARY KEY CHECK (only = 0), incidents INTEGER NOT NULL, sightings INTEGER NOT NULL,
        last_ms INTEGER NOT NULL
    ) STRICT;
    INSERT INTO forgotten VALUES (0, 3, 4, 5);
    INSERT INTO incident VALUES (8, 'system', 'a.service', 'silent-death', 0, -1, x'', '', x'2f62696e2f79', 'told', 1,
        1000, NULL, 1000, NULL, 8, x'79', x'30', 0, x'', NULL, NULL);
    INSERT INTO incident VALUES (9, 'system', 'b.service', 'silent-death', 0, -1, x'', '', x'2f62696e2f79', 'ancestor', 1,
        1000, NULL, 1000, NULL, 8, x'79', x'30', 0, x'', NULL, NULL);
    PRAGMA user_version = 2";

#[test]
fn previous_format_is_migrated() {
    let (_temp, dir) = temp();
    fs::create_dir(&dir).unwrap();
    let earlier = rusqlite::Connection::open(dir.join(FILE)).unwrap();
    earlier.execute_batch(FORMAT_1).unwrap();
    earlier.execute_batch(FORMAT_2).unwrap();
    drop(earlier);
    let mut store = Store::open(&dir).unwrap();
    assert_eq!(store.evicted().unwrap().incidents, 3);
    let kept = Incident { count: 5, ..denial(Some(unit(Manager::System, "a.service")), 41) };
    let tapped =
        Incident { key: IncidentKey { source: SightingSource::Tap { errno: 1 }, ..kept.key.clone() }, ..kept.clone() };
    let read_only = access(2, Access::ReadOnlyPath(AccessPath::new(b"/var/lib/x")));
    store.record(std::slice::from_ref(&read_only)).unwrap();
    assert!(all(&store).contains(&read_only), "the columns of an access were added");
    let ids: Vec<_> = store.record(&[kept, tapped]).unwrap().into_iter().map(|recorded| recorded.id).collect();
    assert_eq!(ids[0], 7);
    let evidence_of = |name: &str| {
        let of_unit = |incident: &Incident| incident.key.unit == Some(unit(Manager::System, name));
        let is_death = |incident: &Incident| incident.key.event == IncidentEvent::UnrecordedDeath;
        all(&store).into_iter().find(|incident| of_unit(incident) && is_death(incident)).and_then(|death| death.rung)
    };
    assert_eq!(evidence_of("a.service"), Some(Rung::Assumed), "the words of format 3 are migrated");
    assert_eq!(evidence_of("b.service"), Some(Rung::ParentCgroup), "evidence of ancestors is no longer collected");
    assert_ne!(ids[1], 7, "the same call seen another way is another incident");
}

#[test]
fn file_is_private_to_its_owner() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    store.record(&[denial(None, 1)]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn newer_format_is_refused_and_left_alone() {
    let (_temp, dir) = temp();
    Store::open(&dir).unwrap().record(&[denial(None, 1)]).unwrap();
    let path = dir.join(FILE);
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.execute_batch(&format!("PRAGMA user_version = {}", SCHEMA + 1)).unwrap();
    drop(newer);
    let before = fs::read(&path).unwrap();
    for error in [
        Store::open(&dir).unwrap_err(),
        Store::open_or_replace(&dir).unwrap_err(),
        Store::open_read_only(&dir).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Newer { found, .. } if found == SCHEMA + 1), "{error}");
        assert!(error.to_string().contains("upgrade harden-why or move the file away"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn database_of_another_program_is_refused_and_left_alone() {
    let (_temp, dir) = temp();
    fs::create_dir(&dir).unwrap();
    let path = dir.join(FILE);
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE recipe (name TEXT)").unwrap();
    drop(foreign);
    let before = fs::read(&path).unwrap();
    assert!(matches!(Store::open_or_replace(&dir), Err(StoreError::Foreign { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn damaged_files_are_set_aside_and_kept() {
    let (_temp, dir) = temp();
    Store::open(&dir).unwrap().record(&(0..2_000).map(|n| denial(None, n)).collect::<Vec<_>>()).unwrap();
    let path = dir.join(FILE);
    let mut torn = fs::read(&path).unwrap();
    torn[8_192..40_960].fill(0xa5);
    fs::write(&path, &torn).unwrap();
    assert!(matches!(Store::open(&dir), Err(StoreError::Damaged { .. })));
    let (store, aside) = Store::open_or_replace(&dir).unwrap();
    assert!(all(&store).is_empty());
    let aside = aside.unwrap().path.unwrap();
    assert_eq!(fs::read(&aside).unwrap(), torn);
    drop(store);

    fs::write(&path, b"this is no database, but a file of text that is long enough").unwrap();
    let error = Store::open(&dir).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { .. }), "{error:?}");
    let (_, second) = Store::open_or_replace(&dir).unwrap();
    assert_ne!(second.unwrap().path, Some(aside));
}

#[test]
fn reader_in_the_same_process_leaves_the_writer_its_locks() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    store.record(&[denial(None, 1)]).unwrap();
    drop(Store::open_read_only(&dir).unwrap());
    // SQLite keeps its readers' locks there. A writer has one as well, or others would remove the log on closing.
    let file = fs::OpenOptions::new().read(true).write(true).open(dir.join(FILE)).unwrap();
    let mut lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: 0x4000_0002,
        l_len: 510,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
    assert_eq!(i32::from(lock.l_type), libc::F_RDLCK);
    drop(store);
}

#[test]
fn reader_without_a_store_reports_that_there_is_none() {
    let (_temp, dir) = temp();
    let error = Store::open_read_only(&dir).unwrap_err();
    assert!(error.to_string().contains("nothing has been recorded"), "{error}");
    assert!(!dir.exists());
}

#[test]
fn reader_sees_what_the_writer_commits() {
    let (_temp, dir) = temp();
    let mut writer = Store::open(&dir).unwrap();
    let reader = Store::open_read_only(&dir).unwrap();
    for n in 0..50 {
        writer.record(&[denial(None, n)]).unwrap();
        assert_eq!(all(&reader).len(), n as usize + 1);
    }
    let mut reader = reader;
    assert!(matches!(reader.record(&[denial(None, 1)]), Err(StoreError::ReadOnly { .. })));
}

#[test]
fn reader_outlives_and_precedes_the_writer() {
    let (_temp, dir) = temp();
    Store::open(&dir).unwrap().record(&[denial(None, 1)]).unwrap();
    let alone = Store::open_read_only(&dir).unwrap();
    assert_eq!(all(&alone).len(), 1);
    Store::open(&dir).unwrap().record(&[denial(None, 2)]).unwrap();
    assert_eq!(all(&alone).len(), 2);
}

#[test]
fn read_only_medium_can_be_read_and_refuses_a_writer() {
    let name = "store::read_only_medium_can_be_read_and_refuses_a_writer";
    if let Some(dir) = child_dir() {
        assert_eq!(all(&Store::open_read_only(&dir).unwrap()).len(), 1);
        let error = Store::open(&dir).unwrap_err();
        assert!(matches!(&error, StoreError::ReadOnly { .. }), "{error:?}");
        assert!(error.to_string().contains(FILE), "{error}");
        return;
    }
    if !may_mount() {
        return skip("mounting needs root");
    }
    let (_temp, dir) = temp();
    Store::open(&dir).unwrap().record(&[denial(None, 1)]).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "the writer left no log behind");
    in_own_mounts("mount --bind -o ro \"$HW_DIR\" \"$HW_DIR\"", name, &dir);
}

#[test]
fn log_of_a_killed_writer_on_a_read_only_medium_is_read_or_reported() {
    let name = "store::log_of_a_killed_writer_on_a_read_only_medium_is_read_or_reported";
    if let Some(dir) = child_dir() {
        assert_eq!(all(&Store::open_read_only(&dir.join("whole")).unwrap()).len(), 1);
        let error = Store::open_read_only(&dir.join("torn")).unwrap_err();
        assert!(matches!(&error, StoreError::Unfinished { .. }), "{error:?}");
        return;
    }
    if !may_mount() {
        return skip("mounting needs root");
    }
    let (temp, dir) = temp();
    let mut writer = Store::open(&dir).unwrap();
    writer.record(&[denial(None, 1)]).unwrap();
    for (copy, suffixes) in [("whole", &["", "-wal", "-shm"][..]), ("torn", &["", "-wal"])] {
        fs::create_dir(temp.path().join(copy)).unwrap();
        for suffix in suffixes {
            let file = format!("{FILE}{suffix}");
            fs::copy(dir.join(&file), temp.path().join(copy).join(&file)).unwrap();
        }
    }
    in_own_mounts("mount --bind -o ro \"$HW_DIR\" \"$HW_DIR\"", name, temp.path());
}

#[test]
fn full_disk_is_reported_and_loses_nothing() {
    let name = "store::full_disk_is_reported_and_loses_nothing";
    if let Some(dir) = child_dir() {
        let mut store = Store::open(&dir).unwrap();
        let mut recorded = 0;
        let error = loop {
            let batch: Vec<_> = (recorded..recorded + 50)
                .map(|n| {
                    let mut incident = denial(None, n);
                    incident.sample.subject = vec![b's'; 500];
                    incident
                })
                .collect();
            match store.record(&batch) {
                Ok(_) => recorded += 50,
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().contains(FILE), "{error}");
        assert_eq!(all(&store).len(), recorded as usize);
        drop(store);
        assert_eq!(all(&Store::open_read_only(&dir).unwrap()).len(), recorded as usize);
        fs::remove_file(dir.join("ballast")).unwrap();
        let mut store = Store::open(&dir).unwrap();
        assert_eq!(all(&store).len(), recorded as usize);
        store.record(&[denial(None, u32::MAX)]).unwrap();
        assert!(recorded > 0);
        return;
    }
    if !may_mount() {
        return skip("mounting needs root");
    }
    let (_temp, dir) = temp();
    fs::create_dir(&dir).unwrap();
    let line = "mount -t tmpfs -o size=2m tmpfs \"$HW_DIR\" && head -c 600000 /dev/zero > \"$HW_DIR/ballast\"";
    in_own_mounts(line, name, &dir);
}

#[test]
fn disk_that_was_full_before_is_reported() {
    let name = "store::disk_that_was_full_before_is_reported";
    if let Some(dir) = child_dir() {
        for (fill, what) in [(0, "nothing left"), (8_192, "two pages left"), (40_960, "ten pages left")] {
            let state = dir.join(format!("state-{fill}"));
            _ = fs::remove_file(dir.join("ballast"));
            Store::open(&state).unwrap().record(&[denial(None, 1)]).unwrap();
            fill_up(&dir, fill);
            let outcome = Store::open(&state).and_then(|mut store| {
                let many: Vec<_> = (0..1_000).map(|n| denial(None, n)).collect();
                store.record(&many)
            });
            let error = outcome.unwrap_err();
            assert!(matches!(&error, StoreError::Full { .. }), "{what}: {error:?}");
            let fresh = Store::open(&dir.join("fresh")).map(|_| ());
            println!("a fresh store with {what}: {fresh:?}");
            assert!(matches!(&fresh, Err(StoreError::Full { .. })), "{what}: {fresh:?}");
            _ = fs::remove_dir_all(dir.join("fresh"));
            fs::remove_file(dir.join("ballast")).unwrap();
            assert_eq!(all(&Store::open(&state).unwrap()).len(), 1);
        }
        return;
    }
    if !may_mount() {
        return skip("mounting needs root");
    }
    let (_temp, dir) = temp();
    fs::create_dir(&dir).unwrap();
    in_own_mounts("mount -t tmpfs -o size=2m tmpfs \"$HW_DIR\"", name, &dir);
}

/// Writes until only this many bytes are left.
fn fill_up(dir: &Path, left: u64) {
    use std::io::Write as _;
    let mut ballast = fs::File::create(dir.join("ballast")).unwrap();
    while ballast.write_all(&[0; 4_096]).is_ok() {}
    let size = ballast.metadata().unwrap().len();
    ballast.set_len(size - left).unwrap();
}

#[test]
fn read_rights_suffice_to_read() {
    let name = "store::read_rights_suffice_to_read";
    if let Some(dir) = child_dir() {
        assert!(Store::open(&dir).is_err(), "this is to run without the right to write");
        println!("\nrows {}", all(&Store::open_read_only(&dir).unwrap()).len());
        return;
    }
    if !may_mount() {
        return skip("becoming another user needs root");
    }
    let (temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let open_to_all = |path: &Path| {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    [temp.path(), &dir, &dir.join(FILE)].into_iter().for_each(open_to_all);
    drop(store);
    store = Store::open(&dir).unwrap();
    store.record(&[denial(None, 1)]).unwrap();
    let copy = temp.path().join("reader");
    support::program::copy(std::env::current_exe().unwrap(), &copy);
    let rows = || {
        let mut reader = Command::new("setpriv");
        reader.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        reader.args(["--exact", name, "--nocapture"]).env("HW_DIR", &dir).current_dir("/");
        let output = reader.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().find_map(|line| line.strip_prefix("rows ")?.parse::<usize>().ok()).unwrap()
    };
    assert_eq!(rows(), 1, "beside the writer");
    store.record(&[denial(None, 2)]).unwrap();
    assert_eq!(rows(), 2, "beside the writer");
    drop(store);
    assert_eq!(rows(), 2, "without a writer");
}

#[test]
fn commits_that_a_killed_writer_acknowledged_are_there() {
    let name = "store::commits_that_a_killed_writer_acknowledged_are_there";
    if let Some(dir) = child_dir() {
        let mut store = Store::open(&dir).unwrap();
        for n in 0.. {
            store.record(&[denial(None, n), denial(None, 1_000_000 + n)]).unwrap();
            println!("\nrecorded {n}");
        }
    }
    for round in 0..3 {
        let (_temp, dir) = temp();
        let mut child = myself(&[], name, &dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let target = format!("recorded {}", 60 + round * 41);
        assert!(lines.any(|line| line == target));
        child.kill().unwrap();
        let last = lines
            .filter_map(|line| line.strip_prefix("recorded ")?.parse::<usize>().ok())
            .last()
            .unwrap_or(60 + round * 41);
        child.wait().unwrap();
        let store = Store::open(&dir).unwrap();
        let rows = all(&store).len();
        assert!(rows >= 2 * (last + 1), "{rows} rows, {} acknowledged", 2 * (last + 1));
        assert_eq!(rows % 2, 0, "a transaction is there as a whole or not at all");
    }
}

#[test]
fn query_of_a_hundred_thousand_rows_is_fast() {
    let (_temp, dir) = temp();
    let mut store = Store::open(&dir).unwrap();
    let started = Instant::now();
    for chunk in 0..100u32 {
        let batch: Vec<_> = (0..1_000)
            .map(|n| {
                let number = chunk * 1_000 + n;
                let name = format!("unit-{}.service", number % 500);
                let manager = if number % 3 == 0 { Manager::User(1000) } else { Manager::System };
                Incident { last: Moment::At(number.into()), ..denial(Some(unit(manager, &name)), number) }
            })
            .collect();
        store.record(&batch).unwrap();
    }
    println!("100,000 rows written in {:?}", started.elapsed());
    drop(store);
    println!("{} bytes", fs::metadata(dir.join(FILE)).unwrap().len());
    let timed = |what: &str, ask: &dyn Fn() -> usize| {
        let started = Instant::now();
        let found = ask();
        let took = started.elapsed();
        println!("{what}: {found} in {took:?}");
        // Generous: a loaded machine, an unoptimized build. Without the indexes it takes far longer.
        assert!(took.as_millis() < 2_000, "{what} took {took:?}");
    };
    timed("open for writing", &|| Store::open(&dir).map(|_| 1).unwrap());
    let store = Store::open_read_only(&dir).unwrap();
    let one = Query { unit: Some("unit-7.service".parse().unwrap()), limit: Some(100), ..Query::default() };
    timed("newest 500", &|| store.incidents(&Query { limit: Some(500), ..Query::default() }).unwrap().len());
    timed("one unit", &|| store.incidents(&one).unwrap().len());
    let own = Query { manager: Some(Manager::User(1000)), limit: Some(500), ..Query::default() };
    timed("one manager", &|| store.incidents(&own).unwrap().len());
    timed("one absent manager", &|| {
        store.incidents(&Query { manager: Some(Manager::User(1)), ..Query::default() }).unwrap().len()
    });
    timed("units", &|| store.units(&Query::default()).unwrap().len());
    timed("units of a manager", &|| store.units(&own).unwrap().len());
}

fn any_moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        any::<i64>().prop_map(Moment::At),
        "\\PC{0,40}".prop_map(|text| Moment::Text(text.into())),
        Just(Moment::Unknown)
    ]
}

/// A tap sees the same error as the access has.
fn source_of(event: &IncidentEvent, source: SightingSource) -> SightingSource {
    match (event, source) {
        (IncidentEvent::Access(denial), SightingSource::Tap { .. }) => SightingSource::Tap { errno: denial.errno },
        _ => source,
    }
}

fn any_incident() -> impl Strategy<Value = Incident> {
    let manager = prop_oneof![Just(Manager::System), any::<u32>().prop_map(Manager::User)];
    let unit = proptest::option::of((manager, "[a-z@.\\\\]{1,9}"))
        .prop_map(|unit| unit.map(|(manager, stem)| self::unit(manager, &format!("u{stem}.service"))));
    let id = prop_oneof![any::<u32>().prop_map(CallId::Number), any::<String>().prop_map(|s| CallId::Name(s.into()))];
    let access = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|path| Access::HiddenPath(AccessPath::new(&path))),
        (any::<u8>(), any::<bool>()).prop_map(|(number, is_held)| Access::Capability {
            capability: Capability::new(number),
            lack: if is_held { CapabilityLack::NotEffective } else { CapabilityLack::NotInBoundingSet },
        }),
        Just(Access::UserNamespace),
    ];
    let event = prop_oneof![
        Just(IncidentEvent::UnrecordedDeath),
        (any::<u32>(), access).prop_map(|(number, access)| IncidentEvent::Access(AccessDenial {
            call: Call { arch: Arch(0xc000_003e), id: CallId::Number(number) },
            errno: 30,
            access,
        })),
        (any::<u32>(), id, any::<u32>()).prop_map(|(arch, id, code)| IncidentEvent::Denial(Denial {
            call: Call { arch: Arch(arch), id },
            action: Action::from_code(code & 0x8fff_0000),
        }))
    ];
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    let sample = (any::<u32>(), bytes(MAX_COMM), "\\PC{0,20}", any::<u64>(), bytes(300)).prop_map(
        |(pid, comm, uid, ip, subject)| Sample {
            pid,
            comm,
            uid: uid.into(),
            login: (pid % 2 == 0).then_some(pid),
            ip,
            call_site: (pid % 3 == 0).then(|| Box::new(call_site(ip))),
            subject,
            parent: None,
        },
    );
    let source = prop_oneof![
        Just(SightingSource::Audit),
        Just(SightingSource::Rehearsal),
        (0..4096).prop_map(|errno| SightingSource::Tap { errno })
    ];
    (unit, event, bytes(300), 0..=i64::MAX, any_moment(), any_moment(), sample, source).prop_map(
        |(unit, event, exe, count, first, last, sample, source)| Incident {
            rung: unit.as_ref().map(|_| Rung::JournalEntry),
            key: IncidentKey { unit, source: source_of(&event, source), event, exe },
            count: count.unsigned_abs(),
            first,
            last,
            sample,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_incident_is_returned_as_written(incident in any_incident()) {
        let (_temp, dir) = temp();
        let mut store = Store::open(&dir).unwrap();
        store.record(std::slice::from_ref(&incident)).unwrap();
        prop_assert_eq!(all(&store), [incident]);
    }
}
