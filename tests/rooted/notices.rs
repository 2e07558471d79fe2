//! The packages contain the licences of everything that is linked into the programs, and a list of it.

#[path = "../../packaging/notices/debian.rs"]
mod debian;
#[path = "../../packaging/notices/linked.rs"]
mod linked;
#[path = "../../packaging/notices/sbom.rs"]
mod sbom;

use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn notices_name_every_linked_crate_with_its_licence() {
    let crates = linked::crates().unwrap();
    let notices = linked::notices("our own", &crates).unwrap();
    for name in ["libsqlite3-sys ", "tokio ", "zbus "] {
        assert!(crates.iter().any(|one| one.name.starts_with(name)), "{name}");
    }
    for name in ["proptest ", "clap_mangen ", "cc ", "serde_derive ", "syscalls "] {
        assert!(!crates.iter().any(|one| one.name.starts_with(name)), "{name} is linked into no program");
    }
    for one in &crates {
        assert!(notices.contains(&format!("{} ({})", one.name, one.license)), "{}", one.name);
        assert!(one.texts.iter().all(|text| text.to_lowercase().contains("copyright")), "{}", one.name);
    }
    // Otherwise cargo-deb would put its own header before it.
    assert!(notices.starts_with("License: ") && notices.contains("our own") && notices.contains("SQLite"));
}

#[test]
fn packages_state_the_licences_of_all_linked_crates() {
    let expression = linked::expression(&linked::crates().unwrap());
    let manifest = include_str!("../../Cargo.toml");
    assert!(manifest.contains(&format!("\nlicense = \"{expression}\"\n")), "{expression}");
}

#[test]
fn bill_of_materials_has_every_linked_crate_with_checksum_and_dependencies() {
    let crates = linked::crates().unwrap();
    let bill: Value = serde_json::from_str(&sbom::bill(&crates, include_str!("../../Cargo.lock")).unwrap()).unwrap();
    let references: BTreeSet<&str> =
        linked::list(&bill["components"]).map(|component| component["bom-ref"].as_str().unwrap()).collect();
    for one in &crates {
        let component = linked::list(&bill["components"])
            .find(|component| {
                format!("{} {}", component["name"].as_str().unwrap(), component["version"].as_str().unwrap())
                    == one.name
            })
            .unwrap_or_else(|| panic!("{} is missing", one.name));
        assert_eq!(component["hashes"][0]["content"].as_str().unwrap().len(), 64, "{component}");
        assert_eq!(component["licenses"][0]["expression"], one.license.as_str());
    }
    assert_eq!(references.len(), crates.len() + 2, "SQLite and Rust's standard library are no crates");
    let own = bill["metadata"]["component"]["bom-ref"].as_str().unwrap();
    let mut used = BTreeSet::new();
    for dependency in linked::list(&bill["dependencies"]) {
        assert!(dependency["ref"] == own || references.contains(dependency["ref"].as_str().unwrap()), "{dependency}");
        let needed = linked::list(&dependency["dependsOn"]).map(|one| one.as_str().unwrap());
        used.extend(needed.map(|needed| (dependency["ref"].as_str().unwrap(), needed)));
    }
    assert!(used.iter().all(|(_, needed)| references.contains(needed)), "{used:?}");
    let needs = |one: &str, other: &str| used.iter().any(|(user, used)| user.contains(one) && used.contains(other));
    assert!(needs("cargo/rusqlite@", "cargo/libsqlite3-sys@") && needs("cargo/libsqlite3-sys@", "generic/sqlite@3."));
    assert!(!needs("cargo/libsqlite3-sys@", "cargo/rusqlite@"));
}

#[test]
fn copyright_of_debian_source_covers_every_crate_of_the_archive() {
    let copyright = debian::copyright(include_str!("../../LICENSE")).unwrap();
    let lock: Vec<&str> = include_str!("../../Cargo.lock").lines().collect();
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.strip_suffix('"')?.to_owned());
    let packages: BTreeSet<String> = lock
        .windows(2)
        .filter_map(|two| Some((value(two[0], "name = \"")?, value(two[1], "version = \"")?)))
        .filter(|(name, _)| name != env!("CARGO_PKG_NAME"))
        .map(|(name, version)| format!("vendor/{name}-{version}/*"))
        .collect();
    let covered: BTreeSet<&str> = copyright.split_whitespace().filter(|word| word.starts_with("vendor/")).collect();
    let missing: Vec<&String> = packages.iter().filter(|name| !covered.contains(name.as_str())).collect();
    assert!(missing.is_empty() && packages.len() > 100, "{missing:?}");
    for paragraph in copyright.split("\n\n").filter(|paragraph| !paragraph.starts_with("Format: ")) {
        let has = |field: &str| paragraph.lines().any(|line| line.starts_with(field));
        assert!(has("Files: ") && has("Copyright: ") && has("License: "), "{paragraph}");
    }
}
