//! The page for Cockpit: its package, and rules for its files. `tests/cockpit/run` tests it in a browser.

use crate::support::skip::skip;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The page's files.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/cockpit")
}

fn names() -> BTreeSet<String> {
    fs::read_dir(sources()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn run(command: &str, arguments: &[&str]) -> Output {
    let output = Command::new(command).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{command} {arguments:?}: {output:?}");
    output
}

/// Builds the package and returns its path.
fn build_package() -> PathBuf {
    run("packaging/build", &["cockpit"]);
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages");
    let mut found = fs::read_dir(packages).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("cockpit-harden-why_")).unwrap()
}

#[test]
fn package_of_page_has_each_file_and_the_same_bytes_twice() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        return skip("there is no dpkg-deb");
    }
    let package = build_package();
    let path = package.to_str().unwrap();
    let listing = String::from_utf8(run("dpkg-deb", &["--contents", path]).stdout).unwrap();
    let mut packed = BTreeSet::new();
    for line in listing.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let expected = if line.starts_with('d') { "drwxr-xr-x" } else { "-rw-r--r--" };
        assert_eq!((fields[0], fields[1]), (expected, "root/root"), "{line}");
        packed.extend(fields[5].strip_prefix("./usr/share/cockpit/harden-why/").filter(|name| !name.is_empty()));
    }
    assert_eq!(packed, names().iter().map(String::as_str).collect());

    let control = String::from_utf8(run("dpkg-deb", &["--field", path]).stdout).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        "Architecture: all".to_owned(),
        format!("Version: {version}-1"),
        format!("Depends: cockpit-bridge (>= 265), cockpit-system (>= 265), harden-why (>= {version})"),
    ] {
        assert!(control.lines().any(|found| found == line), "no {line:?} in {control}");
    }
    let bytes = fs::read(&package).unwrap();
    assert!(fs::read(build_package()).unwrap() == bytes, "a second build differs");
}

#[test]
fn page_refers_to_existing_files_and_keeps_the_content_security_policy() {
    let names = names();
    for name in &names {
        let text = fs::read_to_string(sources().join(name)).unwrap();
        for import in text.split("from \"./").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(names.contains(import), "{name} imports {import}");
        }
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "http://", "https://"]
        {
            let namespace = "http://www.w3.org/2000/svg";
            assert!(!text.replace(namespace, "").contains(forbidden), "{name} has {forbidden}");
        }
    }
    let page = fs::read_to_string(sources().join("index.html")).unwrap();
    for attribute in ["src=\"", "href=\""] {
        for file in page.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(file.starts_with("../") || names.contains(file), "index.html refers to {file}");
        }
    }
    assert!(!page.contains("<script>") && !page.contains("onclick"), "code within the page");
}

#[test]
fn manifest_of_page_is_valid_and_weakens_no_policy() {
    let text = fs::read_to_string(sources().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest["menu"]["index"]["label"], "Hardening");
    assert_eq!(manifest["requires"]["cockpit"], "265");
    assert_eq!(manifest.get("content-security-policy"), None);
}
