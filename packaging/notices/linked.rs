//! The crates that are linked into the programs, and the notices that their licences require.
//!
//! Where a crate offers a choice, MIT is taken. The list is what cargo builds for this machine, without build and test
//! dependencies.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A linked crate.
#[derive(Debug)]
pub(crate) struct Linked {
    /// Its name and version.
    pub(crate) name: String,
    /// The SPDX expression of its licence.
    pub(crate) license: String,
    /// The texts of its licence.
    pub(crate) texts: Vec<String>,
    /// The directory of its source.
    pub(crate) dir: PathBuf,
    /// The names and versions of the linked crates that it uses itself.
    pub(crate) needs: Vec<String>,
}

/// Returns what `cargo metadata` describes: the packages of Cargo.lock.
pub(crate) fn metadata() -> Result<Value> {
    Ok(serde_json::from_str(&cargo(&["metadata", "--format-version=1"])?)?)
}

/// The elements of a JSON array.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The name and version of a package.
pub(crate) fn full_name(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    format!("{} {}", text("name"), text("version"))
}

/// The SPDX expression of a package's licence.
pub(crate) fn license(package: &Value) -> String {
    package["license"].as_str().unwrap_or_default().replace('/', " OR ")
}

/// The directory of a package's source.
pub(crate) fn directory(package: &Value) -> PathBuf {
    Path::new(package["manifest_path"].as_str().unwrap_or_default()).parent().unwrap_or(Path::new("")).to_owned()
}

/// Every linked crate other than this one.
pub(crate) fn crates() -> Result<Vec<Linked>> {
    let tree = cargo(&["tree", "--edges=normal,no-proc-macro", "--prefix=none", "--format={p}"])?;
    // `NAME vVERSION`, and `(*)` after a crate listed before; this crate has a path there.
    let linked: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter(|line| !line.starts_with("harden-why "))
        .filter_map(|line| line.trim_end_matches(" (*)").split_once(" v"))
        .collect();
    let is_linked = |name: &str| name.split_once(' ').is_some_and(|parts| linked.contains(&parts));
    let metadata = metadata()?;
    let names: BTreeMap<&str, String> =
        list(&metadata["packages"]).filter_map(|package| Some((package["id"].as_str()?, full_name(package)))).collect();
    let mut crates = Vec::new();
    for package in list(&metadata["packages"]) {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        if linked.contains(&(text("name"), text("version"))) {
            let (name, dir, license) = (full_name(package), directory(package), license(package));
            let texts =
                texts(&dir, &license).with_context(|| format!("the licence of {name}, in {}", dir.display()))?;
            let node = list(&metadata["resolve"]["nodes"]).find(|node| node["id"] == package["id"]);
            let normal = |one: &&Value| list(&one["dep_kinds"]).any(|kind| kind["kind"].is_null());
            let needed = list(&node.context("cargo metadata resolves no dependencies")?["deps"]).filter(normal);
            let mut needs: Vec<String> = needed
                .filter_map(|one| names.get(one["pkg"].as_str()?))
                .filter(|one| is_linked(one))
                .cloned()
                .collect();
            needs.sort();
            crates.push(Linked { name, license, texts, dir, needs });
        }
    }
    if crates.len() != linked.len() {
        bail!("cargo tree tells of {} crates, and cargo metadata of {} of them", linked.len(), crates.len());
    }
    crates.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(crates)
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments).arg("--locked").output().context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The texts of a licence: of MIT where there is a choice, otherwise all.
pub(crate) fn texts(dir: &Path, license: &str) -> Result<Vec<String>> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && ["LICEN", "NOTICE"].iter().any(|start| name.starts_with(start)) {
            files.push((name, path));
        }
    }
    files.sort();
    if license.contains("MIT") && files.iter().any(|(name, _)| name.contains("MIT")) {
        files.retain(|(name, _)| !["APACHE", "UNLICENSE", "LGPL"].iter().any(|other| name.contains(other)));
    }
    if files.is_empty() {
        bail!("there is none");
    }
    files.into_iter().map(|(_, path)| Ok(fs::read_to_string(path)?)).collect()
}

/// The SPDX expression of the programs: this crate's licence, and those of all linked crates.
pub(crate) fn expression(crates: &[Linked]) -> String {
    let own = env!("CARGO_PKG_LICENSE");
    let mut parts = BTreeSet::new();
    for license in crates.iter().map(|one| one.license.as_str()) {
        for part in license.split(" AND ") {
            let mut choices: Vec<&str> = part.trim_matches(['(', ')']).split(" OR ").collect();
            choices.sort_unstable();
            parts.insert(if choices.len() > 1 { format!("({})", choices.join(" OR ")) } else { part.to_owned() });
        }
    }
    parts.remove(own);
    [own.to_owned()].into_iter().chain(parts).collect::<Vec<_>>().join(" AND ")
}

/// All notices: this project's, and each text once, with the crates that it belongs to.
pub(crate) fn notices(own: &str, crates: &[Linked]) -> Result<String> {
    let mut by_text: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in crates {
        for text in &one.texts {
            let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
            by_text.entry(lines.join("\n")).or_default().push(format!("{} ({})", one.name, one.license));
        }
    }
    let mut by_crate: Vec<(Vec<String>, String)> = by_text.into_iter().map(|(text, names)| (names, text)).collect();
    by_crate.sort();
    let mut out = format!(
        "License: {}\n\nThat is of the programs with all that is linked into them. harden-why itself:\n\n{}\n\nBeside the crates below, SQLite is linked in, which is in the public domain, and Rust's standard\n\
         library (copyright the Rust Project contributors, https://www.rust-lang.org/policies/licenses), under\n\
         MIT or Apache-2.0.\n\n\
         Where a licence leaves the choice, MIT was taken; on Debian the other is in\n\
         /usr/share/common-licenses/Apache-2.0.\n",
        expression(crates),
        own.trim()
    );
    for (names, text) in by_crate {
        write!(out, "\n{}\n\n{}\n\n{text}\n", "-".repeat(80), names.join(",\n"))?;
    }
    Ok(out)
}
