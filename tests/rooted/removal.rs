//! What the removal of the Debian package leaves, and says.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn purge_names_the_drop_ins_that_stay_and_removes_the_store() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    };
    let drop_ins = [
        "etc/systemd/system/web.service.d/zz-harden-why.conf",
        "home/ada/.config/systemd/user/mail.service.d/zz-harden-why.conf",
        "run/systemd/system/db.service.d/zz-harden-why.conf",
    ];
    for file in drop_ins.into_iter().chain(["var/lib/harden-why/incidents.sqlite3", "etc/harden-why/x.conf"]) {
        put(file);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/debian/postrm");
    let run = |how: &str| {
        let output = Command::new("sh").arg(&script).arg(how).env("DPKG_ROOT", root.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("remove"), "");
    assert!(root.path().join("var/lib/harden-why").exists(), "a later installation has its incidents");
    let said = run("purge");
    for file in drop_ins {
        assert!(said.contains(&format!("  {}\n", root.path().join(file).display())), "{file}: {said}");
        assert!(root.path().join(file).exists(), "{file}");
    }
    assert!(
        said.contains("To remove one without harden-why, delete the file") && said.contains("daemon-reload"),
        "{said}"
    );
    assert!(!root.path().join("var/lib/harden-why").exists() && !root.path().join("etc/harden-why").exists());
    for file in drop_ins {
        fs::remove_file(root.path().join(file)).unwrap();
    }
    assert_eq!(run("purge"), "", "nothing stays");
}
