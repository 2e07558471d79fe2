//! Debian's `copyright` file (DEP-5) for the source archive: this project, and each crate in `vendor/`.

use super::linked::{directory, full_name, license, list, metadata, texts};
use anyhow::Result;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The text of the public domain dedication of SQLite (`sqlite3.h`).
const SQLITE: &str = "The authors of SQLite disclaim copyright to its source code.";

/// Crates with the same licence, text and holders: one paragraph of the file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Terms {
    license: String,
    text: String,
    holders: BTreeSet<String>,
}

/// Makes the file. `own` is the text of this project's licence.
pub(crate) fn copyright(own: &str) -> Result<String> {
    let mut paragraphs: BTreeMap<Terms, Vec<String>> = BTreeMap::new();
    for package in list(&metadata()?["packages"]).filter(|package| !package["source"].is_null()) {
        let name = full_name(package).replace(' ', "-");
        paragraphs.entry(terms(package)).or_default().push(format!("vendor/{name}/*"));
    }
    let mut out = format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: {}\n\n",
        env!("CARGO_PKG_NAME")
    );
    add_paragraph(&mut out, "*", &terms_of(own, env!("CARGO_PKG_LICENSE"), &Value::Null))?;
    for (terms, mut files) in paragraphs {
        files.sort();
        add_paragraph(&mut out, &files.join("\n "), &terms)?;
    }
    let sqlite = Terms {
        license: "public-domain".to_owned(),
        text: SQLITE.to_owned(),
        holders: BTreeSet::from(["None".to_owned()]),
    };
    add_paragraph(&mut out, "vendor/libsqlite3-sys-*/sqlite3/*", &sqlite)?;
    Ok(out.trim_end().to_owned() + "\n")
}

fn add_paragraph(out: &mut String, files: &str, terms: &Terms) -> Result<()> {
    let holders: Vec<&str> = terms.holders.iter().map(String::as_str).collect();
    let lines: Vec<&str> =
        terms.text.lines().map(|line| if line.trim().is_empty() { "." } else { line.trim_end() }).collect();
    let (holders, text) = (holders.join("\n "), lines.join("\n "));
    Ok(write!(out, "Files: {files}\nCopyright: {holders}\nLicense: {}\n {text}\n\n", terms.license)?)
}

fn terms(package: &Value) -> Terms {
    let license = license(package);
    // Some crates come without the text that their metadata names.
    let texts = texts(&directory(package), &license).unwrap_or_default();
    terms_of(&texts.join("\n"), &license, &package["authors"])
}

/// The terms of a licence's text; the authors count where it names no holder.
fn terms_of(text: &str, license: &str, authors: &Value) -> Terms {
    let mut holders: BTreeSet<String> = text.lines().filter_map(holder).collect();
    if holders.is_empty() {
        holders = list(authors).filter_map(|author| Some(author.as_str()?.to_owned())).collect();
    }
    if holders.is_empty() {
        holders.insert("its developers".to_owned());
    }
    let is_pointed_at = text.is_empty() || !license.contains("MIT") && license.contains("Apache-2.0");
    let text = if is_pointed_at && license.contains("Apache-2.0") {
        "The text of this licence is in /usr/share/common-licenses/Apache-2.0 on Debian systems.".to_owned()
    } else if text.is_empty() {
        format!("The source has no text of this licence; its metadata says {license}.")
    } else {
        text.trim().to_owned()
    };
    Terms { license: short_name(license), text, holders }
}

/// Returns the holder that a line of a licence names.
fn holder(line: &str) -> Option<String> {
    let line = line.trim();
    let rest = line.strip_prefix("Copyright ").or_else(|| line.strip_prefix("COPYRIGHT "))?;
    // The text of Apache-2.0 has a line to fill in, and sentences about the holder.
    let is_holder = rest.starts_with(|first: char| first.is_ascii_digit() || "(©T".contains(first));
    (is_holder && !rest.contains(['[', '{'])).then(|| rest.trim_end_matches(['.', ' ']).to_owned())
}

/// An SPDX expression in the words of DEP-5.
fn short_name(license: &str) -> String {
    // A comma binds weaker than both words.
    let words = [
        (") AND ", ", and "),
        (" OR ", " or "),
        (" AND ", " and "),
        (" WITH LLVM-exception", " with LLVM exception"),
        ("MIT", "Expat"),
    ];
    let license = words.into_iter().fold(license.to_owned(), |license, (spdx, debian)| license.replace(spdx, debian));
    license.replace(['(', ')'], "")
}
