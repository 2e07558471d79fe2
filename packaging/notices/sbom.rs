//! The software bill of materials of the programs: what is linked into them, as CycloneDX 1.6.
//!
//! It has no time and no serial number, so that each build of one commit makes the same bytes.

use super::linked::Linked;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use toml::de::DeTable;

/// Makes the document. `lock` is the text of Cargo.lock, which has the checksum of each crate.
pub(crate) fn bill(crates: &[Linked], lock: &str) -> Result<String> {
    let checksums = checksums(lock)?;
    let (sqlite, standard_library) = (sqlite(crates)?, standard_library()?);
    let mut components = vec![sqlite.clone(), standard_library];
    let mut needs = BTreeMap::new();
    for one in crates {
        let (name, version) = one.name.split_once(' ').context("a crate has no version")?;
        let checksum =
            checksums.get(&one.name).with_context(|| format!("Cargo.lock has no checksum of {}", one.name))?;
        components.push(json!({
            "type": "library",
            "bom-ref": purl(&one.name),
            "name": name,
            "version": version,
            "purl": purl(&one.name),
            "licenses": [{ "expression": one.license }],
            "hashes": [{ "alg": "SHA-256", "content": checksum }],
        }));
        let mut needed: Vec<Value> = one.needs.iter().map(|name| json!(purl(name))).collect();
        needed.extend((name == "libsqlite3-sys").then(|| sqlite["bom-ref"].clone()));
        needs.insert(purl(&one.name), needed);
    }
    let own = concat!("pkg:generic/", env!("CARGO_PKG_NAME"), "@", env!("CARGO_PKG_VERSION"));
    needs.insert(own.to_owned(), components.iter().map(|one| one["bom-ref"].clone()).collect());
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "bom-ref": own,
            "name": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "purl": own,
            "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
        } },
        "components": components,
        "dependencies": needs.iter().map(|(one, needed)| json!({ "ref": one, "dependsOn": needed })).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The package URL of a crate's name and version.
fn purl(name: &str) -> String {
    // The only character of a crate's version that a package URL escapes.
    format!("pkg:cargo/{}", name.replace(' ', "@").replace('+', "%2B"))
}

/// The SHA-256 checksums of Cargo.lock, by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<String, String>> {
    let lock = DeTable::parse(lock).context("Cargo.lock is not TOML")?;
    let packages = lock.get_ref().get("package").and_then(|list| list.get_ref().as_array());
    let text = |package: &DeTable<'_>, key: &str| Some(package.get(key)?.get_ref().as_str()?.to_owned());
    Ok(packages
        .context("Cargo.lock has no packages")?
        .iter()
        .filter_map(|package| package.get_ref().as_table())
        .filter_map(|one| Some((format!("{} {}", text(one, "name")?, text(one, "version")?), text(one, "checksum")?)))
        .collect())
}

/// SQLite, whose source the crate libsqlite3-sys contains.
fn sqlite(crates: &[Linked]) -> Result<Value> {
    let holder = crates.iter().find(|one| one.name.starts_with("libsqlite3-sys ")).context("SQLite is not linked")?;
    let header = holder.dir.join("sqlite3/sqlite3.h");
    let text = fs::read_to_string(&header).with_context(|| format!("{} cannot be read", header.display()))?;
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("#define SQLITE_VERSION ")?.trim().strip_prefix('"')?.strip_suffix('"'))
        .with_context(|| format!("{} has no SQLITE_VERSION", header.display()))?;
    Ok(without_crate("sqlite", version, &json!([{ "license": { "id": "blessing" } }])))
}

/// Rust's standard library, which the compiler brings.
fn standard_library() -> Result<Value> {
    let output = Command::new("rustc").arg("--version").output().context("rustc cannot be run")?;
    let words = String::from_utf8(output.stdout)?;
    let version = words.split_whitespace().nth(1).context("rustc has no version")?;
    Ok(without_crate("rust-std", version, &json!([{ "expression": "MIT OR Apache-2.0" }])))
}

fn without_crate(name: &str, version: &str, licenses: &Value) -> Value {
    let purl = format!("pkg:generic/{name}@{version}");
    json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "licenses": licenses })
}
