//! Writes the manual pages and completions into a directory: `cargo run --example manuals -- DIR`.

mod pages;

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "give the directory to write into"))?;
    for file in pages::files()? {
        let path = dir.join(file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, file.content)?;
    }
    Ok(())
}
