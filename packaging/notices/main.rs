//! Writes the licences of all crates that are linked into the programs: `cargo run --example notices -- FILE`.

mod linked;

use anyhow::{Context as _, Result};
use std::{env, fs};

fn main() -> Result<()> {
    let file = env::args_os().nth(1).context("give the file to write")?;
    let own = fs::read_to_string("LICENSE").context("LICENSE cannot be read; run this from the checkout")?;
    let crates = linked::crates()?;
    fs::write(&file, linked::notices(&own, &crates)?).with_context(|| format!("{} cannot be written", file.display()))
}
