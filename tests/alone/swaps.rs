//! A user swaps files, directories, links and pipes, or mounts, while root runs `restore`, `apply` and `revert`: nothing outside
//! of the unit's own drop-in is touched, and no command hangs. 20 seconds each by default, 1,000,000 swaps with
//! `HARDEN_WHY_FULL=1`.

use crate::support::denied::denied;
use crate::support::manager::TestManager;
use crate::support::skip::skip;
use harden_why::incidents::Store;
use harden_why::units::Manager;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{fs, io};

/// The directory of the process that swaps.
const ROLE: &str = "HARDEN_WHY_SWAPS_IN";
/// Whether it swaps mounts, in namespaces of its own.
const MOUNTS: &str = "HARDEN_WHY_SWAPS_MOUNTS";
const USER: u32 = 65_534;
const LENT: &str = "zz-harden-why-log-refusals.conf";
const DROP_IN: &str = "zz-harden-why.conf";
const OURS: &str = "# Written by harden-why on a day: a test\n# Owner: 1 0\n[Service]\n";
/// A command that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is swapped, below the user's directory: a name, and the names that take turns under it.
const SWAPS: [(&str, &[&str]); 4] = [
    ("home/.config", &["config-link", "config-file"]),
    ("home/real/systemd/user.conf.d", &["conf-link", "conf-pipe"]),
    ("bin/program", &["program-endless", "program-pipe", "program-link", "program-directory"]),
    ("work", &["work-link"]),
];

/// What is mounted over: names below the user's directory, and directories in which root's commands read and write.
const MOUNT_POINTS: [&str; 7] =
    ["home/real/systemd/user.conf.d", "home/real", "bin", "work", "/etc/systemd/system", "/etc", "/run/systemd"];

#[used]
#[unsafe(link_section = ".init_array")]
static PLAY: extern "C" fn() = play;

/// Swaps names before `main`, until it is killed. Writes how often into a file.
extern "C" fn play() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    // SAFETY: this process has one thread, and no group is read from the null pointer.
    let is_user = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(USER, USER, USER) == 0
            && libc::setresuid(USER, USER, USER) == 0
    };
    if !is_user || std::env::set_current_dir(dir).is_err() {
        std::process::exit(7);
    }
    let Ok(count) = fs::File::create("count") else { std::process::exit(7) };
    if std::env::var_os(MOUNTS).is_some() { swap_mounts(&count) } else { swap_names(&count) }
}

/// Writes a count in place: a reader never finds the file empty.
fn write_count(file: &fs::File, swaps: u64) {
    let _ = file.write_all_at(format!("{swaps:020}").as_bytes(), 0);
}

fn swap_names(count: &fs::File) -> ! {
    let c = |name: &str| CString::new(name).unwrap_or_default();
    let pairs: Vec<(CString, CString)> =
        SWAPS.iter().flat_map(|(name, others)| others.iter().map(|other| (c(name), c(other)))).collect();
    let mut swaps = 0_u64;
    loop {
        for (one, other) in &pairs {
            // SAFETY: both names end with a zero byte.
            let swapped = unsafe {
                libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), libc::RENAME_EXCHANGE)
            };
            swaps += u64::from(swapped == 0);
        }
        write_count(count, swaps);
    }
}

/// Mounts the directory that must not change, and empty file systems, over names that root's commands use. It has all
/// capabilities in a user namespace and a mount namespace of its own, and tries to enter those of its parent and of PID 1.
fn swap_mounts(count: &fs::File) -> ! {
    // A process that changed its user is not its own: only root could write its maps.
    // SAFETY: no call takes memory, and this process has one thread.
    let is_apart = unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 1_usize, 0_usize, 0_usize, 0_usize) == 0
            && libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) == 0
    };
    let map = format!("0 {USER} 1");
    let maps = [("setgroups", "deny"), ("uid_map", &*map), ("gid_map", &*map)];
    let is_root = maps.iter().all(|(file, text)| fs::write(format!("/proc/self/{file}"), text).is_ok());
    if !is_apart || !is_root {
        std::process::exit(8);
    }
    let c = |name: &str| CString::new(name).unwrap_or_default();
    let (tmpfs, victim) = (c("tmpfs"), c("../victim"));
    let mut swaps = 0_u64;
    loop {
        for point in MOUNT_POINTS.map(c) {
            for (source, kind, flags) in [(&victim, std::ptr::null(), libc::MS_BIND), (&tmpfs, tmpfs.as_ptr(), 0)] {
                // SAFETY: all names end with a zero byte, and a null pointer stands for no file system and no options.
                let is_swapped = unsafe {
                    libc::mount(source.as_ptr(), point.as_ptr(), kind, flags, std::ptr::null()) == 0
                        && libc::umount2(point.as_ptr(), libc::MNT_DETACH) == 0
                };
                swaps += u64::from(is_swapped);
            }
        }
        for process in ["1", &std::os::unix::process::parent_id().to_string()] {
            let other = fs::File::open(format!("/proc/{process}/ns/mnt"));
            // SAFETY: the descriptor is open.
            let has_entered =
                other.is_ok_and(|other| unsafe { libc::setns(other.as_raw_fd(), libc::CLONE_NEWNS) } == 0);
            if has_entered {
                std::process::exit(9);
            }
        }
        write_count(count, swaps);
    }
}

/// Prepares the names that are swapped. Links lead to the directory that must not change.
fn prepare(user: &Path, victim: &Path) -> io::Result<()> {
    for dir in ["home/real/systemd/user.conf.d", "bin", "work", "program-directory"] {
        fs::create_dir_all(user.join(dir))?;
    }
    symlink(user.join("home/real"), user.join("home/.config"))?;
    fs::write(user.join("home/real/systemd/user.conf.d").join(LENT), OURS)?;
    symlink(victim, user.join("config-link"))?;
    fs::write(user.join("config-file"), "")?;
    symlink(victim, user.join("conf-link"))?;
    symlink(victim, user.join("work-link"))?;
    symlink("/dev/zero", user.join("program-endless"))?;
    symlink(victim.join("secret"), user.join("program-link"))?;
    fs::copy("/bin/true", user.join("bin/program"))?;
    for pipe in ["conf-pipe", "program-pipe"] {
        nix::unistd::mkfifo(&user.join(pipe), nix::sys::stat::Mode::S_IRWXU)?;
    }
    give(user)
}

/// Gives all files to the user.
fn give(path: &Path) -> io::Result<()> {
    nix::unistd::fchownat(
        nix::fcntl::AT_FDCWD,
        path,
        Some(USER.into()),
        Some(USER.into()),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

/// Makes the directory that must not change. It has what each operation would write or remove by its own rules.
fn build_victim(victim: &Path) -> io::Result<()> {
    for dir in ["systemd/user.conf.d", "systemd/user/x.service.d", "x.service.d"] {
        fs::create_dir_all(victim.join(dir))?;
    }
    for file in [
        LENT,
        "secret",
        "systemd/user.conf.d/zz-harden-why-log-refusals.conf",
        "systemd/user/x.service.d/.harden-why.4194399",
        "systemd/user/x.service.d/zz-harden-why.conf",
        "x.service.d/.harden-why.4194399",
        "x.service.d/zzzz-harden-why-rehearsal.conf",
    ] {
        fs::write(victim.join(file), OURS)?;
        chown(victim.join(file), Some(0), Some(0))?;
    }
    Ok(())
}

/// Returns each path with its file, its last change and its bytes.
fn read_all(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                dirs.push(path.clone());
            }
            let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            all.insert(path, (metadata.ino(), metadata.ctime_nsec(), bytes));
        }
    }
    all
}

/// Runs a command to its end.
fn run(mut command: Command) -> Option<i32> {
    let mut child: Child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn swaps_of_a_user_lead_no_command_of_root_elsewhere() {
    let _turn = crate::take_turn();
    attack(&[]);
}

#[test]
fn mounts_of_a_user_lead_no_command_of_root_elsewhere() {
    let _turn = crate::take_turn();
    let probe = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "unshare", "--user", "--map-root-user", "--mount", "true"])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        return skip("users can make no user namespaces");
    }
    attack(&[(MOUNTS, "1")]);
}

/// Runs root's commands while a user's process with these variables swaps what they use.
fn attack(variables: &[(&str, &str)]) {
    let is_full = std::env::var_os("HARDEN_WHY_FULL").is_some();
    let Some(manager) = TestManager::start() else { return };
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (user, victim) = (place.path().join("user"), place.path().join("victim"));
    fs::create_dir(&user).unwrap();
    build_victim(&victim).unwrap();
    prepare(&user, &victim).unwrap();
    let program = user.join("bin/program");
    manager.write(
        "x.service",
        &format!(
            "[Service]\nType=oneshot\nExecStart={}\nWorkingDirectory=-{}\nSystemCallFilter=~uname\n",
            program.display(),
            user.join("work").display()
        ),
    );
    manager.reload();
    let store = manager.base().join("store");
    Store::open(&store).unwrap().record(&[denied(Manager::System, "uname")]).unwrap();
    let (before, drop_ins) = (read_all(&victim), manager.base().join("etc/x.service.d"));
    let mut swapper = Command::new(std::env::current_exe().unwrap())
        .env(ROLE, &user)
        .envs(variables.iter().copied())
        .spawn()
        .unwrap();
    let client = |arguments: &[&str], home: &Path| {
        let bus = manager.bus();
        let mut command = manager.command(&[&[env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus], arguments].concat());
        command.env("HOME", home).env("XDG_CONFIG_HOME", home.join(".config"));
        run(command)
    };
    let (began, mut rounds) = (Instant::now(), 0);
    let swaps = || fs::read_to_string(user.join("count")).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let home = user.join("home");
    while if is_full { swaps() < 1_000_000 } else { began.elapsed() < Duration::from_secs(20) } || rounds < 3 {
        client(&["restore"], &home);
        let state = store.display().to_string();
        client(&["--state-dir", &state, "apply", "x", "--yes"], &home);
        let written: Vec<_> = fs::read_dir(&drop_ins).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(written, [DROP_IN], "apply writes one file");
        assert_eq!(client(&["revert", "x"], &home), Some(0));
        assert!(!drop_ins.exists(), "revert removes it");
        assert_eq!(read_all(&victim), before, "round {rounds}");
        rounds += 1;
    }
    let ended = swapper.try_wait().unwrap();
    swapper.kill().unwrap();
    swapper.wait().unwrap();
    assert!(
        ended.is_none() && swaps() > 1_000,
        "{} swaps, {ended:?} (8: no namespaces, 9: in those of others)",
        swaps()
    );
    println!("{} swaps during {rounds} rounds of restore, apply and revert in {:?}", swaps(), began.elapsed());
}
