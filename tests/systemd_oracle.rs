//! Random unit files and drop-ins, read by harden-why and by a real systemd: both must find the same files and the same
//! settings. One user manager runs in namespaces of its own and starts no unit.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "support/random.rs"]
mod random;
#[path = "support/skip.rs"]
#[expect(dead_code, reason = "other programs need more of it")]
mod skip;

use harden_why::policy::{AddressFamilies, Capability, Directive, Effect, Mode, SyscallFilter, errno};
use harden_why::syscalls::Groups;
use harden_why::syscalls::groups::GroupSource;
use harden_why::systemd::syscall_groups;
use harden_why::unit_files::{LoadedUnit, load};
use harden_why::units::{Manager, Unit};
use random::Random;
use skip::skip;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of `SystemCallFilter=`; each has at least one.
const UNITS: usize = 510;

/// Words of lines about capabilities: by name in either case, by number, and unknown ones.
const CAPABILITIES: [&str; 13] = [
    "CAP_CHOWN",
    "cap_kill",
    "Cap_Setuid",
    "CAP_MKNOD",
    "CAP_SYS_RAWIO",
    "CAP_SYS_MODULE",
    "CAP_SYSLOG",
    "CAP_SYS_TIME",
    "CAP_WAKE_ALARM",
    "CAP_CHECKPOINT_RESTORE",
    "21",
    "99",
    "CAP_BOGUS",
];

/// libseccomp treats these as one call, except on PowerPC.
const SHARED_NUMBER: [&str; 2] = ["switch_endian", "sys_debug_setcontext"];

/// Runs a user manager on the files below `$B/home` and asks it about `$UNITS`. The cgroup2 mount
/// must show the caller's cgroup as its root, or the manager would not start.
const SCRIPT: &str = r"
mount --make-rprivate / || exit 77
mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system || exit 77
mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 77
export HOME=$B/home XDG_RUNTIME_DIR=$B/run
unset DBUS_SESSION_BUS_ADDRESS SYSTEMD_UNIT_PATH XDG_CONFIG_HOME XDG_DATA_HOME XDG_CONFIG_DIRS XDG_DATA_DIRS
/lib/systemd/systemd --user --unit=basic.target >$B/log 2>&1 &
manager=$!
for i in $(seq 1200); do [ -S $B/run/systemd/private ] && break; sleep 0.05; done
[ -S $B/run/systemd/private ] || { kill $manager; wait $manager; echo 'no socket after a minute' >>$B/log; exit 70; }
systemctl --user show --all $UNITS >$B/shown
status=$?
kill $manager; wait $manager
exit $status
";

/// Chooses the same files in every run.
struct Choice(Random);

impl Choice {
    fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn words(&mut self, from: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| self.pick(from)).collect::<Vec<_>>().join(" ")
    }
}

/// Some lines of a `[Service]` section.
fn lines(random: &mut Choice, calls: &[&str], groups: &[&str]) -> String {
    let switches: Vec<&str> = Directive::switches().map(Directive::key).collect();
    let mut text = String::from("[Service]\n");
    for number in 0..=random.below(5) {
        let line = match if number == 0 { usize::MAX } else { random.below(16) } {
            0 => format!(
                "SystemCallErrorNumber={}",
                random.pick(&["EPERM", "38", "kill", "", "0", "EFOO", "0x11", "EWOULDBLOCK"])
            ),
            1 => format!("SystemCallLog={}{}", random.pick(&["", "~"]), random.words(calls, 3)),
            2 => format!(
                "RestrictNamespaces={}",
                random.pick(&["yes", "no", "", "net mnt", "~user", "~net", "ipc", "ipc bogus", "~"])
            ),
            3 => format!(
                "RestrictAddressFamilies={}{}",
                random.pick(&["", "~"]),
                random.words(&["AF_UNIX", "AF_LOCAL", "AF_INET", "AF_NETLINK", "bogus", "AF_UNSPEC", "'AF_INET6'"], 4)
            ),
            4 => format!("RestrictAddressFamilies={}", random.pick(&["none", ""])),
            5 => format!(
                "SystemCallArchitectures={}",
                random.words(&["native", "x86", "x32", "arm64", "bogus", "\"x86-64\""], 3)
            ),
            6 => format!("{}={}", random.pick(&switches), random.pick(&["yes", "no", "On", "0", "t", "", "maybe"])),
            8 => format!(
                "{}={}{}",
                random.pick(&["CapabilityBoundingSet", "AmbientCapabilities"]),
                random.pick(&["", "~"]),
                random.words(&CAPABILITIES, 4)
            ),
            9 => format!("NoNewPrivileges={}", random.pick(&["yes", "no", "", "perhaps"])),
            // A filter that starts again from nothing.
            7 => "SystemCallFilter=".to_owned(),
            _ => {
                let negated = random.below(2) == 1;
                let words: Vec<String> = (0..random.below(5))
                    .map(|_| {
                        let name = if random.below(2) == 0 { random.pick(calls) } else { random.pick(groups) };
                        let errno = match random.below(if negated { 3 } else { 9 }) {
                            0 => random.pick(&[":EPERM", ":38", ":kill", ":0", ":EFOO", ":"]),
                            _ => "",
                        };
                        let continued = if random.below(12) == 0 { " \\\n# comment\n ;another\n" } else { "" };
                        format!("{name}{errno}{continued}")
                    })
                    .collect();
                format!("SystemCallFilter={}{}", if negated { "~" } else { "" }, words.join(" "))
            }
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Writes the files; returns the names to ask for.
fn write_units(home: &Path, random: &mut Choice, groups: &Groups) -> Vec<String> {
    let known: Vec<&str> = groups.calls("@known").unwrap().iter().map(AsRef::as_ref).collect();
    // Few calls, so that lines affect the same ones.
    let mut calls: Vec<&str> = (0..12).map(|_| random.pick(&known)).collect();
    calls.extend(["read", "mount", "exit", "bogus", "@bogus", "a\\x", "%i", "%%"]);
    let group_names: Vec<&str> = groups.names().collect();
    let (config, data) = (home.join(".config/systemd/user"), home.join(".local/share/systemd/user"));
    let control = home.join(".config/systemd/user.control");
    let dirs = [&config, &data, &control];
    for dir in dirs {
        fs::create_dir_all(dir).unwrap();
    }
    let mut names = Vec::new();
    for number in 0..UNITS {
        let template = number % 5 == 0;
        let (file, name) = if template {
            (format!("o{number}-a@.service"), format!("o{number}-a@x.service"))
        } else {
            (format!("o{number}-a.service"), format!("o{number}-a.service"))
        };
        let text = format!("{}ExecStart=/bin/true\n", lines(random, &calls, &group_names));
        fs::write(dirs[random.below(2)].join(&file), text).unwrap();
        let alias = format!("alias-{file}");
        if random.below(3) == 0 {
            symlink(&file, config.join(&alias)).unwrap();
        }
        let below = [
            format!("{name}.d"),
            format!("{file}.d"),
            format!("o{number}-.service.d"),
            format!("o{number}-@x.service.d"),
            format!("{alias}.d"),
            format!("o{number}-a-.service.d"),
        ];
        for _ in 0..random.below(4) {
            let dir = dirs[random.below(3)].join(&below[random.below(below.len())]);
            fs::create_dir_all(&dir).unwrap();
            let path = dir.join(random.pick(&["10.conf", "20-b.conf", "5.conf", "z.conf", ".h.conf", "no"]));
            if random.below(8) == 0 {
                let _ = symlink("/dev/null", path);
            } else {
                fs::write(path, lines(random, &calls, &group_names)).unwrap();
            }
        }
        names.push(name);
    }
    // Each family on a line of its own, so that an unknown one does not invalidate others.
    let families = AddressFamilies::known_names().map(|family| format!("RestrictAddressFamilies={family}\n"));
    let families = families.collect::<String>();
    fs::write(config.join("families.service"), format!("[Service]\nExecStart=/bin/true\n{families}")).unwrap();
    names.push("families.service".to_owned());
    // What libseccomp resolves; @known itself lacks some calls that other groups have.
    let all = format!("[Service]\nExecStart=/bin/true\nSystemCallFilter=~{}\n", group_names.join(" "));
    fs::write(config.join("known.service"), all).unwrap();
    // systemd stops reading a file at a bad `DynamicUser=`, and loads no unit whose own file has one.
    let refused = "[Service]\nExecStart=/bin/true\nLockPersonality=yes\nDynamicUser=maybe\nProtectClock=yes\n";
    fs::write(config.join("refused.service"), refused).unwrap();
    fs::write(config.join("below.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    fs::create_dir_all(config.join("below.service.d")).unwrap();
    fs::write(config.join("below.service.d/10.conf"), refused.replace("ExecStart=/bin/true\n", "")).unwrap();
    fs::write(config.join("below.service.d/20.conf"), "[Service]\nMemoryDenyWriteExecute=yes\n").unwrap();
    names.extend(["refused.service", "below.service"].map(ToOwned::to_owned));
    // Settings of the manager that apply to all its units.
    fs::create_dir_all(data.join("service.d")).unwrap();
    fs::write(data.join("service.d/10.conf"), "[Service]\nProtectKernelLogs=yes\n").unwrap();
    names
}

/// `systemctl show` of several units: one map each.
fn shown(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let units = text.split("\n\n").map(|unit| {
        unit.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    });
    units.map(|unit: BTreeMap<String, String>| (unit["Id"].clone(), unit)).collect()
}

/// The filter as `systemctl show` prints it, of calls that libseccomp knows.
fn as_shown(filter: Option<&SyscallFilter>, known: &BTreeSet<String>) -> (bool, BTreeSet<String>) {
    let Some(filter) = filter else { return (false, BTreeSet::new()) };
    let allow = filter.mode() == Mode::Allow;
    let words = filter.entries().iter().filter(|(call, _)| known.contains(&***call));
    let words = words.filter(|(_, entry)| !allow || entry.effect.is_none()).map(|(call, entry)| match entry.effect {
        None => call.to_string(),
        Some(Effect::Errno(number)) => match errno::name(number) {
            Some(name) => format!("{call}:{name}"),
            None => format!("{call}:{number}"),
        },
        Some(_) => format!("{call}:kill"),
    });
    (allow, words.collect())
}

/// A list with polarity.
fn list(text: &str) -> (bool, BTreeSet<String>) {
    let (allow, words) = text.strip_prefix('~').map_or((true, text), |words| (false, words));
    (allow, words.split_whitespace().map(ToOwned::to_owned).collect())
}

fn owned<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(ToOwned::to_owned).collect()
}

/// Every difference between harden-why's reading and systemd's.
fn differences(
    loaded: &LoadedUnit,
    shown: &BTreeMap<String, String>,
    groups: &Groups,
    known: &BTreeSet<String>,
) -> String {
    let mut found = String::new();
    let mut compare = |what: &str, ours: String, systemds: String| {
        if ours != systemds {
            let _ = write!(found, "\n  {what}: ours {ours}, systemd's {systemds}");
        }
    };
    let settings = &loaded.settings;
    let path = |path: &PathBuf| path.display().to_string();
    let fragment = loaded.files.fragment.as_ref().map(path).unwrap_or_default();
    compare("FragmentPath", fragment, shown["FragmentPath"].clone());
    let dropins: Vec<String> = loaded.files.dropins.iter().map(path).collect();
    compare("DropInPaths", dropins.join(" "), shown["DropInPaths"].clone());
    let filter = SyscallFilter::simulate(settings.assignments(), groups);
    let (ours, mut systemds) = (as_shown(filter.as_ref(), known), list(&shown["SystemCallFilter"]));
    systemds.1.retain(|call| !SHARED_NUMBER.iter().any(|shared| call.split(':').next() == Some(shared)));
    compare("SystemCallFilter's mode", ours.0.to_string(), systemds.0.to_string());
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| format!("{:?}", a.difference(b).collect::<Vec<_>>());
    compare("SystemCallFilter", only(&ours.1, &systemds.1), only(&systemds.1, &ours.1));
    if let Some(filter) = &filter {
        let errno = shown["SystemCallErrorNumber"].parse().unwrap();
        let entries: Vec<String> = systemds.1.iter().cloned().collect();
        let told = SyscallFilter::from_manager(systemds.0, &entries, errno, groups);
        let reconciled = told.as_ref().map(|told| filter.reconciled(told));
        compare("reconciled", format!("{}", reconciled.is_none_or(|r| r.is_some())), "true".into());
        for call in told.iter().flat_map(|_| known) {
            let (ours, told) = (filter.ruling(call).denied, told.as_ref().and_then(|told| told.ruling(call).denied));
            // systemd does not show which errno an allow-list gives a call.
            if filter.mode() == Mode::Deny || !filter.entries().contains_key(call.as_str()) || ours.is_none() {
                compare(call, format!("{ours:?}"), format!("{told:?}"));
            }
        }
    }
    let default = match settings.default_effect().effect {
        Effect::Errno(number) => number,
        _ => Effect::KILL_ON_BUS,
    };
    compare("SystemCallErrorNumber", default.to_string(), shown["SystemCallErrorNumber"].clone());
    let families =
        AddressFamilies::from_settings(settings, groups).0.map(|f| (f.allow_list, owned(f.listed.into_keys())));
    let families = families.unwrap_or_default();
    compare(
        "RestrictAddressFamilies",
        format!("{families:?}"),
        format!("{:?}", list(&shown["RestrictAddressFamilies"])),
    );
    // `time` is newer than some systemds, so it does not count here.
    let without_time =
        |names: BTreeSet<String>| names.into_iter().filter(|name| name != "time").collect::<BTreeSet<_>>();
    let all = owned(harden_why::policy::Namespaces::KNOWN);
    let retained = settings.namespaces().map_or(all.clone(), |n| owned(n.retained.iter().copied()));
    let systemds = match shown["RestrictNamespaces"].as_str() {
        "no" => all,
        "yes" => BTreeSet::new(),
        names => list(names).1,
    };
    compare("RestrictNamespaces", format!("{:?}", without_time(retained)), format!("{:?}", without_time(systemds)));
    let architectures = owned(settings.architectures().listed.keys().map(AsRef::as_ref));
    compare(
        "SystemCallArchitectures",
        format!("{architectures:?}"),
        format!("{:?}", list(&shown["SystemCallArchitectures"]).1),
    );
    let capabilities = |has: &dyn Fn(&str) -> bool| {
        let all = Capability::all().filter_map(Capability::name).filter(|name| has(name));
        all.map(str::to_ascii_lowercase).collect::<BTreeSet<_>>()
    };
    let bounding = capabilities(&|name| settings.can_have_capability(name));
    let ambient = capabilities(&|name| settings.program().has_ambient_capability(name));
    for (key, ours) in [("CapabilityBoundingSet", bounding), ("AmbientCapabilities", ambient)] {
        let mut systemds = list(&shown[key]).1;
        systemds.retain(|name| name.starts_with("cap_"));
        compare(key, format!("{ours:?}"), format!("{systemds:?}"));
    }
    let no_new = if settings.has_no_new_privileges() { "yes" } else { "no" };
    compare("NoNewPrivileges", no_new.into(), shown["NoNewPrivileges"].clone());
    let on = |directive| settings.switch(directive).is_some_and(|switch| switch.on);
    for directive in Directive::switches() {
        // systemd shows what `DynamicUser=` implies (`unit_patch_contexts`).
        let implied = directive == Directive::RestrictSUIDSGID && on(Directive::DynamicUser);
        let ours = if on(directive) || implied { "yes" } else { "no" };
        compare(directive.key(), ours.into(), shown[directive.key()].clone());
    }
    found
}

/// The mount point of cgroup2 here.
fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.find(|fields| fields.get(2) == Some(&"cgroup2")).and_then(|fields| fields.get(1).map(PathBuf::from))
}

#[test]
fn random_unit_file_is_read_as_systemd_reads_it() {
    let groups = syscall_groups::load().groups;
    if !matches!(groups.source(), GroupSource::Host(_)) {
        return skip("no systemd-analyze");
    }
    if !nix::unistd::geteuid().is_root() || !Path::new("/lib/systemd/systemd").exists() {
        return skip("needs root and systemd");
    }
    let Some(cgroup) = cgroup2().map(|mount| mount.join(format!("harden-why-oracle-{}", std::process::id()))) else {
        return skip("no cgroup2");
    };
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(dir.path().join("run")).unwrap();
    let names = write_units(&home, &mut Choice(Random(0x5eed_cafe_f00d)), &groups);
    if fs::create_dir(&cgroup).is_err() {
        return skip("cannot make a cgroup");
    }
    let enter = format!(
        "echo $$ >{}/cgroup.procs || exit 77; exec unshare --mount --cgroup sh -c \"$SCRIPT\"",
        cgroup.display()
    );
    let status = Command::new("timeout")
        .args(["600", "sh", "-c", &enter])
        .env("SCRIPT", SCRIPT)
        .env("B", dir.path())
        .env("UNITS", format!("known.service {}", names.join(" ")))
        .status();
    remove_cgroup(&cgroup);
    match status.ok().and_then(|status| status.code()) {
        Some(0) => {}
        Some(77) => return skip("cannot mount here"),
        code => panic!("{code:?}: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default()),
    }
    let shown = shown(&fs::read_to_string(dir.path().join("shown")).unwrap());
    let mut known = list(&shown["known.service"]["SystemCallFilter"]).1;
    known.retain(|call| !SHARED_NUMBER.contains(&call.as_str()));
    assert!(known.len() > 300);
    let (mut wrong, mut refused) = (String::new(), 0);
    for name in &names {
        let unit = Unit { manager: Manager::User(0), name: name.parse().unwrap() };
        let loaded = load(Path::new("/"), &unit, Some(&home));
        let is_refused =
            loaded.settings.notes().iter().any(|note| note.text.contains("systemd does not load the unit"));
        assert_eq!(is_refused, shown[name]["LoadState"] == "bad-setting", "{name}: {:?}", loaded.settings.notes());
        if is_refused {
            refused += 1;
            continue;
        }
        let found = differences(&loaded, &shown[name], &groups, &known);
        if !found.is_empty() {
            let lines: Vec<String> = loaded
                .settings
                .assignments()
                .map(|line| format!("\n  {} {}={}", line.origin, line.key, line.value))
                .collect();
            let _ = write!(wrong, "\n{name}:{found}{}", lines.concat());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!((1..names.len() / 4).contains(&refused), "{refused} units that systemd does not load");
    println!("{} units agree, and systemd loads {refused} of them as little as harden-why says", names.len());
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
