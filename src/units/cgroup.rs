//! Finds the unit of a cgroup, from `/proc/PID/cgroup` or a path (`cgroups(7)`, systemd's `src/basic/cgroup-util.c`).
//!
//! A manager owns the top of its tree: slices, then one unit. Cgroups below that unit are delegated to the unit and can
//! have any name, so `sshd.service` below a unit is never a unit of that manager. The search goes on only below
//! `user@UID.service`, because a user manager owns that subtree by the same rules.

use super::cgroup_name::unescape_unit_name;
use super::name::{Manager, Unit, UnitName};

/// Where a cgroup is: in a unit, or in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The cgroup belongs to this unit.
    Unit(Unit),
    /// The cgroup names no unit, for this reason.
    None(Unplaced),
}

/// Why a cgroup names no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unplaced {
    /// The root cgroup: the task is exiting and the kernel has moved it there, or no manager has placed it.
    Root,
    /// A manager's own `init.scope`. A service's main process is also there between fork and exec, so the unit stays
    /// unknown. But processes of a user's units stay below that user's manager.
    Manager(Manager),
    /// A login session: a person started the process, not a unit.
    Session,
    /// A slice itself: a user moved the process there by hand.
    Slice,
    /// Outside of this cgroup namespace.
    Outside,
    /// A cgroup that systemd did not create.
    Foreign,
    /// The cgroup file is missing or damaged.
    Unreadable,
}

impl Unplaced {
    /// Whether it is certain that no unit owns the process. Otherwise an unknown unit may own the process.
    #[must_use]
    pub fn is_certain(self) -> bool {
        matches!(self, Self::Session | Self::Slice | Self::Foreign)
    }
}

/// The unit types with processes (`systemd.unit(5)`), except slices.
const WITH_PROCESSES: [&str; 5] = ["service", "scope", "socket", "mount", "swap"];

/// The suffix that the kernel appends to the path of a removed cgroup.
const DELETED: &[u8] = b" (deleted)";

/// Finds the placement that the bytes of `/proc/PID/cgroup` give.
///
/// The line of the unified hierarchy counts, on hybrid machines as well. If that line says `/`, the line of systemd's
/// own hierarchy counts, as on a machine that has only version 1.
#[must_use]
pub fn place(bytes: &[u8]) -> Placement {
    let mut unified = None;
    let mut legacy = None;
    // A line without a newline is truncated, and a truncated name can be another unit's name.
    for line in bytes.split_inclusive(|&b| b == b'\n').filter_map(|line| line.strip_suffix(b"\n")) {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        match (hierarchy, controllers) {
            (b"0", b"") => unified = unified.or(Some(path)),
            (_, b"name=systemd") => legacy = legacy.or(Some(path)),
            _ => {}
        }
    }
    match (unified.map(place_path), legacy) {
        (None | Some(Placement::None(Unplaced::Root)), Some(path)) => place_path(path),
        (Some(placement), _) => placement,
        (None, None) => Placement::None(Unplaced::Unreadable),
    }
}

/// Places one cgroup path, as the kernel or systemd (`ControlGroup=`) writes it.
#[must_use]
pub fn place_path(path: &[u8]) -> Placement {
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    let Some(below) = path.strip_prefix(b"/") else { return Placement::None(Unplaced::Unreadable) };
    if below.is_empty() {
        return Placement::None(Unplaced::Root);
    }
    if below == b".." || below.starts_with(b"../") {
        return Placement::None(Unplaced::Outside);
    }
    let mut levels = below.split(|&b| b == b'/');
    let own = match take_unit(&mut levels, Manager::System) {
        Ok(name) => name,
        Err(why) => return Placement::None(why),
    };
    let unit = match user_manager_uid(&own) {
        // The process is directly in `user@UID.service`. It is a child of the user manager before exec, or the user
        // manager itself: before it moves to its init.scope, or attached late by the system manager on a busy machine.
        Some(uid) if levels.clone().next().is_none() => Err(Unplaced::Manager(Manager::User(uid))),
        Some(uid) => {
            let manager = Manager::User(uid);
            take_unit(&mut levels, manager).map(|name| Unit { manager, name })
        }
        None => Ok(Unit { manager: Manager::System, name: own }),
    };
    unit.map_or_else(Placement::None, Placement::Unit)
}

/// Whether a path can be the cgroup of a manager's unit or slice. The system manager's can be anywhere; a user manager
/// owns what is below its `user@UID.service`.
#[must_use]
pub fn is_of_manager(path: &str, manager: Manager) -> bool {
    let Manager::User(uid) = manager else { return true };
    let Some(below) = path.strip_prefix('/') else { return false };
    let is_plain = !below.split('/').any(|level| matches!(level, "" | "." | ".."));
    let mut levels = below.split('/').map(str::as_bytes);
    is_plain && take_unit(&mut levels, Manager::System).is_ok_and(|name| user_manager_uid(&name) == Some(uid))
}

/// Whether the bytes of `/proc/PID/cgroup` show a process in this cgroup of systemd's or below it. `path` is that of a
/// unit, as its manager reports it (`ControlGroup=`).
#[must_use]
pub(crate) fn is_at_or_below(bytes: &[u8], path: &str) -> bool {
    let path = path.trim_end_matches('/').as_bytes();
    // A machine with version 1 has systemd's own hierarchy; a hybrid one has both.
    let paths = bytes.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (hierarchy, controllers) = (fields.next()?, fields.next()?);
        fields.next().filter(|_| hierarchy == b"0" || controllers == b"name=systemd")
    });
    paths.filter_map(|own| own.strip_prefix(path)).any(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Returns the path of a scope or a login in the bytes of `/proc/PID/cgroup`; `None` for other cgroups. systemd starts no
/// process of a scope (`systemd.scope(5)`), so its processes have the filters with which they came.
#[must_use]
pub(crate) fn scope_path(bytes: &[u8]) -> Option<&[u8]> {
    let is_scope = match place(bytes) {
        Placement::Unit(unit) => unit.name.suffix() == "scope",
        Placement::None(why) => why == Unplaced::Session,
    };
    let mut paths = bytes.split(|&b| b == b'\n').filter_map(|line| line.strip_prefix(b"0::"));
    paths.next().filter(|_| is_scope)
}

/// Takes the levels of one manager: slices, then a unit.
fn take_unit<'a>(levels: &mut impl Iterator<Item = &'a [u8]>, manager: Manager) -> Result<UnitName, Unplaced> {
    let mut slice: Option<UnitName> = None;
    for level in levels {
        let name = decode_unit_name(level).ok_or(Unplaced::Foreign)?;
        match name.suffix() {
            "slice" if name.as_str().contains('@') => return Err(Unplaced::Foreign),
            "slice" if !is_nested(&name, slice.as_ref()) => return Err(Unplaced::Foreign),
            "slice" => slice = Some(name),
            _ if name.as_str() == "init.scope" => return Err(Unplaced::Manager(manager)),
            _ if is_session(&name, slice.as_ref()) => return Err(Unplaced::Session),
            suffix if WITH_PROCESSES.contains(&suffix) => return Ok(name),
            _ => return Err(Unplaced::Foreign),
        }
    }
    Err(Unplaced::Slice)
}

/// Whether a slice can be below another: its name must extend the other's (`systemd.slice(5)`). Otherwise a container
/// that has a systemd of its own made it.
fn is_nested(slice: &UnitName, above: Option<&UnitName>) -> bool {
    let stem = |name: &UnitName| name.as_str().strip_suffix(".slice").map(str::to_owned);
    let (Some(stem), above) = (stem(slice), above.and_then(stem)) else { return false };
    match above {
        Some(above) => {
            stem.strip_prefix(&*above).and_then(|rest| rest.strip_prefix('-')).is_some_and(|rest| !rest.contains('-'))
        }
        // The slice at the top has one part.
        None => !stem.contains('-'),
    }
}

/// Decodes a cgroup's name into a unit name.
fn decode_unit_name(level: &[u8]) -> Option<UnitName> {
    let name: UnitName = std::str::from_utf8(unescape_unit_name(level)).ok()?.parse().ok()?;
    // Only instances of a template have processes.
    (!name.is_template()).then_some(name)
}

/// Returns the uid of `user@UID.service` (`user@.service(5)`).
fn user_manager_uid(name: &UnitName) -> Option<u32> {
    parse_uid(name.as_str().strip_prefix("user@")?.strip_suffix(".service")?)
}

/// Whether a unit is logind's `session-ID.scope` in a `user-UID.slice` (`systemd-logind(8)`).
fn is_session(name: &UnitName, slice: Option<&UnitName>) -> bool {
    let in_user_slice =
        slice.and_then(|slice| parse_uid(slice.as_str().strip_prefix("user-")?.strip_suffix(".slice")?)).is_some();
    let id = name.as_str().strip_prefix("session-").and_then(|rest| rest.strip_suffix(".scope"));
    in_user_slice && id.is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Parses a uid as systemd writes it: decimal without sign or leading zeros, and neither `(uid_t) -1` nor its 16-bit
/// form.
fn parse_uid(digits: &str) -> Option<u32> {
    let canonical = digits == "0" || !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let uid = digits.parse().ok().filter(|_| canonical)?;
    (uid != u32::MAX && uid != u32::from(u16::MAX)).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn process_is_below_the_units_that_contain_it() {
        let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.service";
        let (unified, legacy) = (format!("0::{own}\n"), format!("4:cpu:/\n1:name=systemd:{own}\n0::/\n"));
        for bytes in [unified.as_bytes(), legacy.as_bytes()] {
            let contains = |path: &str| is_at_or_below(bytes, path);
            assert!(
                [own, "/user.slice/user-1000.slice/user@1000.service", "/user.slice", "/"].map(contains) == [true; 4]
            );
            assert!(!contains("/user.slice/user-100") && !contains("/system.slice/x.service"));
        }
    }

    #[test]
    fn user_manager_owns_only_what_is_below_its_own_cgroup() {
        let own = "/user.slice/user-1000.slice/user@1000.service";
        let is_own = |path: &str| is_of_manager(path, Manager::User(1000));
        assert!(is_own(own) && is_own(&format!("{own}/app.slice")) && is_own(&format!("{own}/app.slice/web.service")));
        for path in [
            "",
            "/",
            "/system.slice/sshd.service",
            "/user.slice/user-1001.slice/user@1001.service/app.slice/web.service",
            "/user.slice/user-1000.slice/session-2.scope",
            "user.slice/user-1000.slice/user@1000.service",
            &format!("{own}/../user@1001.service"),
            &format!("{own}/../../../../../home/eve/x"),
            &format!("/docker.slice{own}"),
        ] {
            assert!(!is_own(path), "{path}");
        }
        assert!(is_of_manager("/system.slice/sshd.service", Manager::System));
    }

    fn system(name: &str) -> Placement {
        Placement::Unit(Unit { manager: Manager::System, name: name.parse().unwrap() })
    }

    fn user(uid: u32, name: &str) -> Placement {
        Placement::Unit(Unit { manager: Manager::User(uid), name: name.parse().unwrap() })
    }

    /// Checks the placement of every path, on version 2 and as the `name=systemd` line of version 1.
    fn check(table: &[(&str, Placement)]) {
        for (path, expected) in table {
            assert_eq!(place(format!("0::{path}\n").as_bytes()), *expected, "{path}");
            let v1 = format!("3:cpu,cpuacct:/\n1:name=systemd:{path}\n");
            assert_eq!(place(v1.as_bytes()), *expected, "{path} on version 1");
            if *path != "/" {
                assert_eq!(place_path(format!("{path} (deleted)").as_bytes()), *expected, "{path} deleted");
            }
        }
    }

    /// A container's systemd below a slice of the host, as Docker with `--cgroup-parent` starts it.
    #[test]
    fn slice_whose_name_does_not_extend_its_parents_is_foreign() {
        let foreign = || Placement::None(Unplaced::Foreign);
        check(&[
            ("/docker.slice/system.slice/sshd.service", foreign()),
            ("/docker.slice/docker-a.slice/x.service", system("x.service")),
            ("/a.slice/a-b.slice/a-b-c.slice/x.service", system("x.service")),
            ("/a.slice/a-b-c.slice/x.service", foreign()),
            ("/a.slice/ab.slice/x.service", foreign()),
            ("/a-b.slice/x.service", foreign()),
        ]);
    }

    #[test]
    fn path_below_system_slices_is_a_unit_of_the_system_manager() {
        check(&[
            ("/system.slice/ssh.service", system("ssh.service")),
            ("/foo.service", system("foo.service")),
            ("/system.slice/run-u12.scope", system("run-u12.scope")),
            ("/system.slice/var-lib-foo.mount", system("var-lib-foo.mount")),
            ("/system.slice/dbus.socket", system("dbus.socket")),
            ("/system.slice/dev-sda2.swap", system("dev-sda2.swap")),
            ("/system.slice/system-postfix.slice/postfix@-.service", system("postfix@-.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", system("getty@tty1.service")),
            ("/a.slice/a-b.slice/a-b-c.slice/d.service", system("d.service")),
            (
                "/system.slice/system-foo\\x2dbar.slice/foo\\x2dbar@x\\x20y.service",
                system("foo\\x2dbar@x\\x20y.service"),
            ),
        ]);
    }

    #[test]
    fn underscore_prefix_is_removed_from_unit_name() {
        check(&[
            ("/system.slice/_cpu.service", system("cpu.service")),
            ("/_memory.slice/_cgroup.service", system("cgroup.service")),
            ("/system.slice/__private.service", system("_private.service")),
        ]);
    }

    #[test]
    fn path_below_user_manager_is_a_unit_of_that_user() {
        check(&[
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", user(1000, "foo.service")),
            ("/user.slice/user-1000.slice/user@1000.service/foo.service", user(1000, "foo.service")),
            ("/user.slice/user-0.slice/user@0.service/background.slice/run-r1.scope", user(0, "run-r1.scope")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-foo.slice/app-foo@1.service/sub/sub",
                user(1000, "app-foo@1.service"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-0a.scope/container",
                user(1000, "libpod-0a.scope"),
            ),
            ("/user.slice/user-1000.slice/user@1000.service", Placement::None(Unplaced::Manager(Manager::User(1000)))),
        ]);
    }

    #[test]
    fn delegated_cgroup_belongs_to_the_delegating_unit() {
        check(&[
            ("/system.slice/foo.service/sshd.service", system("foo.service")),
            ("/system.slice/foo.service/system.slice/sshd.service", system("foo.service")),
            ("/system.slice/foo.service/init.scope", system("foo.service")),
            ("/system.slice/foo.service/user@0.service/sshd.service", system("foo.service")),
            ("/system.slice/foo.service/..", system("foo.service")),
            ("/system.slice/foo.service/\u{1b}[2J: x", system("foo.service")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/a.service/user@0.service/sshd.service",
                user(1000, "a.service"),
            ),
            // A user manager has no further managers below it: every cgroup there belongs to that user.
            ("/user.slice/user-1000.slice/user@1000.service/user@0.service/sshd.service", user(1000, "user@0.service")),
        ]);
    }

    #[test]
    fn process_of_container_belongs_to_the_host_unit() {
        check(&[
            ("/machine.slice/machine-deb.scope/payload/system.slice/ssh.service", system("machine-deb.scope")),
            ("/machine.slice/systemd-nspawn@deb.service/payload/init.scope", system("systemd-nspawn@deb.service")),
            ("/machine.slice/systemd-nspawn@deb.service/supervisor", system("systemd-nspawn@deb.service")),
            ("/system.slice/docker-0a1b.scope/system.slice/nginx.service", system("docker-0a1b.scope")),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-0a.scope",
                system("cri-containerd-0a.scope"),
            ),
            ("/docker/0a1b/system.slice/nginx.service", Placement::None(Unplaced::Foreign)),
            ("/lxc.payload.deb/system.slice/ssh.service", Placement::None(Unplaced::Foreign)),
            ("/kubepods/burstable/pod1/0a1b", Placement::None(Unplaced::Foreign)),
        ]);
    }

    #[test]
    fn cgroup_outside_units_gives_the_reason() {
        check(&[
            ("/", Placement::None(Unplaced::Root)),
            ("/init.scope", Placement::None(Unplaced::Manager(Manager::System))),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                Placement::None(Unplaced::Manager(Manager::User(1000))),
            ),
            ("/user.slice/user-1000.slice/session-3.scope", Placement::None(Unplaced::Session)),
            ("/user.slice/user-1000.slice/session-c1.scope/sshd.service", Placement::None(Unplaced::Session)),
            ("/system.slice", Placement::None(Unplaced::Slice)),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice", Placement::None(Unplaced::Slice)),
            ("/..", Placement::None(Unplaced::Outside)),
            ("/../../system.slice/ssh.service", Placement::None(Unplaced::Outside)),
            ("", Placement::None(Unplaced::Unreadable)),
            ("ssh.service", Placement::None(Unplaced::Unreadable)),
        ]);
    }

    #[test]
    fn path_that_systemd_never_creates_is_foreign() {
        check(&[
            ("//system.slice/ssh.service", Placement::None(Unplaced::Foreign)),
            ("/system.slice//ssh.service", Placement::None(Unplaced::Foreign)),
            ("/system.slice/getty@.service", Placement::None(Unplaced::Foreign)),
            ("/a@b.slice/ssh.service", Placement::None(Unplaced::Foreign)),
            ("/system.slice/multi-user.target", Placement::None(Unplaced::Foreign)),
            ("/system.slice/a b.service", Placement::None(Unplaced::Foreign)),
            ("/system.slice/\u{e9}.service", Placement::None(Unplaced::Foreign)),
            ("/system.slice/_", Placement::None(Unplaced::Foreign)),
            ("/..foo/ssh.service", Placement::None(Unplaced::Foreign)),
        ]);
        let long = format!("/system.slice/{}.service", "a".repeat(250));
        assert_eq!(place_path(long.as_bytes()), Placement::None(Unplaced::Foreign));
        assert_eq!(place(b"0::/system.slice/\xff.service\n"), Placement::None(Unplaced::Foreign));
    }

    #[test]
    fn user_service_without_valid_uid_is_no_user_manager() {
        for uid in ["", "01", "-1", "+1", "1 ", "4294967295", "65535", "4294967296", "root"] {
            let path = format!("/user.slice/user@{uid}.service/foo.service");
            assert!(!matches!(place_path(path.as_bytes()), Placement::Unit(Unit { manager: Manager::User(_), .. })));
        }
        assert_eq!(place_path(b"/user@4294967294.service/foo.service"), user(u32::MAX - 1, "foo.service"));
    }

    #[test]
    fn session_scope_outside_user_slice_is_a_plain_unit() {
        assert_eq!(place_path(b"/system.slice/session-3.scope"), system("session-3.scope"));
        assert_eq!(place_path(b"/user.slice/user-1000.slice/session-.scope"), system("session-.scope"));
        assert_eq!(place_path(b"/user.slice/user-x.slice/session-3.scope"), system("session-3.scope"));
    }

    #[test]
    fn unified_line_counts_on_hybrid_machine() {
        let hybrid =
            b"12:pids:/system.slice/a.service\n1:name=systemd:/system.slice/old.service\n0::/system.slice/b.service\n";
        assert_eq!(place(hybrid), system("b.service"));
        // An exiting task, or a version 1 machine on which something mounted version 2.
        assert_eq!(place(b"1:name=systemd:/system.slice/c.service\n0::/\n"), system("c.service"));
        assert_eq!(place(b"1:name=systemd:/\n0::/\n"), Placement::None(Unplaced::Root));
        assert_eq!(place(b"4:memory:/system.slice/a.service\n0::/\n"), Placement::None(Unplaced::Root));
    }

    #[test]
    fn damaged_cgroup_file_is_unreadable() {
        for bytes in [
            &b""[..],
            b"\n",
            b"0::",
            b"0::/system.slice/ssh.service",
            b"0:/system.slice/ssh.service\n",
            b"00::/system.slice/ssh.service\n",
            b"0:name:/system.slice/ssh.service\n",
            b"1:pids:/system.slice/ssh.service\n",
            b"\0\xff",
        ] {
            assert_eq!(place(bytes), Placement::None(Unplaced::Unreadable), "{bytes:?}");
        }
    }

    #[test]
    fn first_unified_line_of_a_long_file_counts() {
        let mut bytes = b"9:cpu:/x\n".repeat(10_000);
        bytes.extend_from_slice(b"0::/system.slice/a.service\n0::/system.slice/b.service\n");
        assert_eq!(place(&bytes), system("a.service"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_placed(bytes: Vec<u8>) {
            let _ = place(&bytes);
        }

        #[test]
        fn any_path_below_a_unit_belongs_to_the_unit(below in "[a-z@./_0-9]{0,60}") {
            let path = format!("/system.slice/foo.service/{below}");
            prop_assert_eq!(place_path(path.as_bytes()), system("foo.service"));
        }
    }
}
