//! The packages contain the licences of everything that is linked into the programs.

#[path = "../../packaging/notices/linked.rs"]
mod linked;

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
