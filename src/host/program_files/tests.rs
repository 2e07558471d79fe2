//! Reads the programs of units below built roots.

use super::*;
use crate::kernel::mounts::is_in_chroot;
use crate::policy::{Policy, Settings, UnitFile};
use crate::syscalls::{Abi, Groups};
use std::os::unix::fs::{PermissionsExt as _, symlink};

/// Limits that no test reaches by time, however busy the machine is.
fn unhurried(bytes: u64) -> ReadLimits {
    ReadLimits::new(bytes, Duration::from_hours(1))
}

/// Reads the programs of a unit with these lines below a root that has the test's own executable as `/usr/bin/own`.
fn programs(root: &Path, lines: &str, exes: &[&str]) -> Vec<Program> {
    programs_under(Manager::System, root, lines, exes)
}

fn programs_under(manager: Manager, root: &Path, lines: &str, exes: &[&str]) -> Vec<Program> {
    let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
    let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
    let policy = Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64));
    let drop_in = PathBuf::from("/etc/systemd/system/x.service.d/zz-harden-why.conf");
    let mut situation = Situation { policy, drop_in, history: None, programs: Vec::new() };
    let mut reader = ProgramReader::new(root, manager, situation.policy.settings.program(), unhurried(u64::MAX));
    for exe in exes {
        reader.add_recorded(exe.as_bytes(), 0);
    }
    let recorded = reader.programs;
    read_programs_within(unhurried(u64::MAX), &mut situation, manager, root, &[]);
    situation.programs.into_iter().chain(recorded).collect()
}

fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for dir in ["usr/bin", "usr/sbin", "srv/jail/usr/bin", "tmp"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    symlink("usr/bin", root.path().join("bin")).unwrap();
    let own = std::env::current_exe().unwrap();
    for path in ["usr/bin/own", "srv/jail/usr/bin/jailed", "usr/bin/python3.11", "tmp/evil"] {
        fs::copy(&own, root.path().join(path)).unwrap();
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    root
}

fn describe(programs: &[Program]) -> Vec<String> {
    let kind = |image: &ProgramImage| match image {
        ProgramImage::Native(file) if file.imports.contains("socket") => "native",
        ProgramImage::Native(_) => "empty",
        ProgramImage::Interpreter(_) => "interpreter",
        ProgramImage::Static => "static",
        ProgramImage::Unread(_) => "unread",
    };
    programs.iter().map(|one| format!("{} {}", String::from_utf8_lossy(&one.path), kind(&one.image))).collect()
}

#[test]
fn executable_is_read_below_the_root_by_path_and_by_name() {
    let root = machine();
    assert_eq!(describe(&programs(root.path(), "ExecStart=/bin/own -x", &[])), ["/bin/own native"]);
    assert_eq!(describe(&programs(root.path(), "ExecStart=own", &[])), ["/usr/bin/own native"]);
    assert_eq!(describe(&programs(root.path(), "ExecStart=/bin/missing", &[])), ["/bin/missing unread"]);
    assert_eq!(describe(&programs(root.path(), "ExecStart=+/bin/own\nExecReload=/bin/own", &[])), [""; 0]);
    let shell = programs(root.path(), "ExecStart=/bin/sh -c 'exec own'", &[]);
    assert_eq!(describe(&shell), ["/bin/sh unread", "/usr/bin/own native"]);
}

#[test]
fn executable_is_read_in_the_root_directory_of_the_unit() {
    let root = machine();
    let lines = "RootDirectory=/srv/jail\nExecStart=/usr/bin/jailed";
    assert_eq!(describe(&programs(root.path(), lines, &[])), ["/usr/bin/jailed native"]);
    assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/jailed", &[])), ["/usr/bin/jailed unread"]);
}

#[test]
fn file_outside_the_units_root_is_no_evidence() {
    let root = machine();
    for setting in ["RootImage=/srv/x.raw", "RootDirectory=/srv/jail", "RootDirectory=/srv/%i", "RootDirectory=jail"] {
        let lines = format!("{setting}\nExecStart=/usr/bin/own\nExecStartPre=own");
        let found = describe(&programs(root.path(), &lines, &["/usr/bin/python3.11"]));
        assert_eq!(found, ["/usr/bin/own unread", "/usr/bin/python3.11 unread"], "{setting}");
    }
    fs::write(root.path().join("srv/jail/usr/bin/script"), "#!/usr/bin/own\n").unwrap();
    let script = programs(root.path(), "RootDirectory=/srv/jail\nExecStart=/usr/bin/script", &[]);
    assert_eq!(describe(&script), ["/usr/bin/own unread"]);
}

#[test]
fn command_that_the_units_user_can_write_or_swap_is_no_evidence() {
    let root = machine();
    let home = root.path().join("home/u");
    fs::create_dir_all(&home).unwrap();
    symlink("/usr/bin/own", home.join("link")).unwrap();
    fs::copy(root.path().join("tmp/evil"), home.join("app")).unwrap();
    fs::write(root.path().join("usr/bin/script"), "#!/home/u/app\n").unwrap();
    let kinds = |manager| {
        ["app", "link"].map(|name| {
            describe(&programs_under(manager, root.path(), &format!("ExecStart=/home/u/{name}"), &[])).concat()
        })
    };
    assert_eq!(kinds(Manager::System), ["/home/u/app native", "/home/u/link native"]);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(kinds(Manager::System), ["/home/u/app unread", "/home/u/link unread"]);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.join("app"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(kinds(Manager::System), ["/home/u/app unread", "/home/u/link native"]);
    assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/script", &[])), ["/home/u/app unread"]);
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(home.join("app"), fs::Permissions::from_mode(0o755)).unwrap();
        for path in [home.join("app"), home.join("link")] {
            std::os::unix::fs::lchown(path, Some(1234), None).unwrap();
        }
        assert_eq!(kinds(Manager::System), ["/home/u/app unread", "/home/u/link unread"]);
        assert_eq!(kinds(Manager::User(1234)), ["/home/u/app native", "/home/u/link native"]);
    }
}

#[test]
fn recorded_executable_that_was_replaced_is_no_evidence() {
    let root = machine();
    symlink("/usr/bin/own", root.path().join("usr/bin/link")).unwrap();
    for exe in ["/usr/bin/link", "/usr/bin/link (deleted)", "/usr/bin/own (deleted)"] {
        let path = exe.strip_suffix(" (deleted)").unwrap_or(exe);
        let found = programs(root.path(), "", &[exe]);
        assert_eq!(describe(&found), [format!("{path} unread")], "{exe}");
        assert_eq!(found[0].image, ProgramImage::Unread(UnreadReason::Replaced), "{exe}");
    }
    assert_eq!(describe(&programs(root.path(), "", &["/bin/own"])), ["/bin/own native"]);
}

#[test]
fn script_leads_to_its_interpreter() {
    let root = machine();
    fs::write(root.path().join("usr/bin/own-script"), "#!/usr/bin/own\n").unwrap();
    let own = programs(root.path(), "ExecStart=/usr/bin/own-script", &[]);
    assert_eq!(describe(&own), ["/usr/bin/own interpreter"], "whatever runs a script is one");
    symlink("python3.11", root.path().join("usr/bin/python3")).unwrap();
    fs::write(root.path().join("usr/bin/script"), "#!/usr/bin/env python3\n").unwrap();
    fs::write(root.path().join("usr/bin/loop"), "#!/usr/bin/loop\n").unwrap();
    assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/script", &[])), ["python3 interpreter"]);
    for line in ["-S python3 -u", "-Spython3", "-S -i A=1 python3", "-S A=1 /usr/bin/python3"] {
        fs::write(root.path().join("usr/bin/script"), format!("#!/usr/bin/env {line}\n")).unwrap();
        let found = describe(&programs(root.path(), "ExecStart=/usr/bin/script", &[]));
        assert!(found.concat().ends_with("python3 interpreter"), "{line}: {found:?}");
    }
    assert_eq!(describe(&programs(root.path(), "ExecStart=/usr/bin/loop", &[])), ["/usr/bin/loop unread"]);
}

#[test]
fn recorded_executable_that_others_can_write_is_no_evidence() {
    let root = machine();
    fs::set_permissions(root.path().join("tmp/evil"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(describe(&programs(root.path(), "", &["/usr/bin/own"])), ["/usr/bin/own native"]);
    assert_eq!(describe(&programs(root.path(), "", &["/tmp/evil"])), ["/tmp/evil unread"]);
    assert_eq!(describe(&programs(root.path(), "", &["relative", ""])), [""; 0]);
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(root.path().join("tmp/evil"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(root.path().join("tmp/evil"), Some(1234), None).unwrap();
        assert_eq!(describe(&programs(root.path(), "", &["/tmp/evil"])), ["/tmp/evil unread"]);
    }
}

#[test]
fn file_that_is_no_program_is_unread() {
    let root = machine();
    fs::write(root.path().join("usr/bin/text"), "no ELF file").unwrap();
    nix::unistd::mkfifo(&root.path().join("usr/bin/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["text", "pipe"] {
        let found = programs(root.path(), &format!("ExecStart=/usr/bin/{name}"), &[]);
        assert_eq!(describe(&found), [format!("/usr/bin/{name} unread")]);
    }
}

#[test]
fn build_that_was_read_before_is_not_read_again() {
    if is_in_chroot() {
        return;
    }
    let root = machine();
    fs::copy(root.path().join("usr/bin/own"), root.path().join("usr/bin/same")).unwrap();
    let read = |name: &str| {
        let mut reader =
            ProgramReader::new(root.path(), Manager::System, &ProgramSettings::default(), unhurried(u64::MAX));
        reader.add_command(name);
        (reader.limits.bytes_left(), reader.programs.pop().unwrap().image)
    };
    let (first, image) = read("/usr/bin/own");
    let (second, same) = read("/usr/bin/same");
    assert_eq!(image, same);
    let (first, second) = (u64::MAX - first, u64::MAX - second);
    assert!(second * 10 < first, "{first} bytes, then {second}");
}

/// Compiles a program that imports a function of a library, and the library. `None` without a compiler for x86-64.
fn machine_with_library() -> Option<tempfile::TempDir> {
    let root = tempfile::tempdir().unwrap();
    let compile = |name: &str, text: &str, arguments: &[&str]| {
        let source = root.path().join(format!("{name}.c"));
        fs::write(&source, text).unwrap();
        let mut command = std::process::Command::new("gcc");
        command.current_dir(root.path()).arg(&source).args(arguments).arg("-o").arg(name);
        command.status().is_ok_and(|status| cfg!(target_arch = "x86_64") && status.success())
    };
    for dir in ["usr/bin", "usr/lib"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    let library = "#include <sys/socket.h>\nint serve(int kind) { return socket(kind, 1, 0); }\n";
    let program = "int serve(int); int main(int n, char **v) { return serve(n); }\n";
    let name = "-Wl,-soname,libserve.so.1";
    let are_made = compile("usr/lib/libserve.so.1", library, &["-O1", "-shared", "-fPIC", name])
        && compile("usr/bin/webd", program, &["-O1", "-Lusr/lib", "-l:libserve.so.1"]);
    are_made.then_some(root)
}

#[test]
fn library_that_is_not_read_is_named_and_the_program_is_read_again() {
    let Some(root) = machine_with_library() else { return println!("skipped: no gcc for x86-64") };
    let library = root.path().join("usr/lib/libserve.so.1");
    let read = |bytes: u64| {
        let mut reader =
            ProgramReader::new(root.path(), Manager::System, &ProgramSettings::default(), unhurried(bytes));
        reader.add_command("/usr/bin/webd");
        (reader.programs.pop().unwrap(), bytes - reader.limits.bytes_left())
    };
    let unread = |program: &Program| program.unread_libraries.concat();
    let moved = root.path().join("moved");
    fs::rename(&library, &moved).unwrap();
    let (missing, own_bytes) = read(u64::MAX);
    assert_eq!((&*unread(&missing), missing.has_known_imports()), ("libserve.so.1", false));
    fs::rename(&moved, &library).unwrap();
    fs::set_permissions(&library, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(unread(&read(u64::MAX).0), "libserve.so.1", "others can write it");
    fs::set_permissions(&library, fs::Permissions::from_mode(0o644)).unwrap();
    for more in [0, 100, 1_000] {
        assert_eq!(unread(&read(own_bytes + more).0), "libserve.so.1", "{more} bytes of it may be read");
    }
    let (whole, _) = read(u64::MAX);
    assert_eq!((&*unread(&whole), whole.has_known_imports()), ("", true));
    assert_eq!(whole.libraries.len(), 1, "{:?}", whole.libraries);
    let (again, bytes) = read(u64::MAX);
    assert!(again == whole && bytes < own_bytes, "{bytes} of {own_bytes}: a whole reading is kept");
}

#[test]
fn library_of_another_class_or_machine_does_not_hide_the_right_one() {
    let Some(root) = machine_with_library() else { return println!("skipped: no gcc for x86-64") };
    let right = fs::read(root.path().join("usr/lib/libserve.so.1")).unwrap();
    // The directory comes before /usr/lib in the order of the linker.
    let earlier = root.path().join("usr/lib64");
    fs::create_dir_all(&earlier).unwrap();
    let read_with = |class: u8, machine: u8| {
        let mut other = right.clone();
        (other[4], other[18]) = (class, machine);
        fs::write(earlier.join("libserve.so.1"), other).unwrap();
        let reader = ProgramReader::new(root.path(), Manager::System, &ProgramSettings::default(), unhurried(u64::MAX));
        let program = reader.open(Path::new("/usr/bin/webd")).unwrap();
        let mut parts = LimitedFile::new(program.file, u64::MAX, Rc::clone(&reader.limits));
        let (_, linkage) = ElfFile::read(&mut parts).unwrap();
        let reached = reader.read_libraries(Path::new("/usr/bin/webd"), &linkage);
        (reached.libraries.len(), reached.unread.concat())
    };
    for (class, machine, what) in [(1, 3, "i386"), (1, 62, "x32"), (2, 183, "aarch64")] {
        assert_eq!(read_with(class, machine), (1, String::new()), "{what}");
    }
    fs::write(root.path().join("usr/lib/libserve.so.1"), "no library").unwrap();
    assert_eq!(read_with(2, 62), (1, String::new()), "the first one of the program's own platform counts");
    assert_eq!(read_with(2, 183), (0, "libserve.so.1".to_owned()), "the linker refuses a file that is no library");
}

#[test]
fn executable_beyond_the_limit_is_not_called_broken() {
    let root = machine();
    let mut reader = ProgramReader::new(root.path(), Manager::System, &ProgramSettings::default(), unhurried(1 << 10));
    reader.add_command("/usr/bin/own");
    assert_eq!(reader.programs.pop().unwrap().image, ProgramImage::Unread(UnreadReason::Unreached));
}
