//! Writes the documents about all that is linked into the programs:
//!
//!     cargo run --example notices -- copyright|bill|debian FILE
//!
//! `copyright` is the texts of all licences, `bill` the software bill of materials, and `debian` the copyright file of a
//! Debian source package, which covers all crates of the source archive.

mod debian;
mod linked;
mod sbom;

use anyhow::{Context as _, Result, bail};
use std::{env, fs};

fn main() -> Result<()> {
    let [kind, file] =
        env::args().skip(1).collect::<Vec<_>>().try_into().ok().context("name a document and its file")?;
    let read = |name: &str| {
        fs::read_to_string(name).with_context(|| format!("{name} cannot be read; run this from the checkout"))
    };
    let document = match kind.as_str() {
        "copyright" => linked::notices(&read("LICENSE")?, &linked::crates()?)?,
        "bill" => sbom::bill(&linked::crates()?, &read("Cargo.lock")?)?,
        "debian" => debian::copyright(&read("LICENSE")?)?,
        other => bail!("there is no document {other}: copyright, bill or debian"),
    };
    fs::write(&file, document).with_context(|| format!("{file} cannot be written"))
}
