//! Opens a log that the user names: a file, or standard input.

use crate::audit::text::shown_path;
use crate::cli::terminal::progress::Progress;
use crate::intake::log_encoding::LogEncoding;
use crate::operations::outcome::RequiresRoot;
use anyhow::{Context as _, bail};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

/// Opens a log, or stdin for `-`.
///
/// # Errors
/// The file cannot be read, or is not text; the error says how to convert it.
pub(crate) fn open_log(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return ensure_text(Progress::new(std::io::stdin().lock(), None), None);
    }
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root() => {
            bail!(RequiresRoot(format!("cannot read {}: Permission denied", shown_path(file))))
        }
        opened => opened.with_context(|| format!("cannot read {}", shown_path(file)))?,
    };
    let metadata = opened.metadata().ok();
    anyhow::ensure!(
        !metadata.as_ref().is_some_and(std::fs::Metadata::is_dir),
        "{} is a directory; name a log file",
        shown_path(file)
    );
    let length = metadata.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    ensure_text(Progress::new(opened, length), Some(file))
}

/// Returns the log if it is text.
fn ensure_text(mut log: impl Read + 'static, file: Option<&Path>) -> anyhow::Result<Box<dyn Read>> {
    let mut first = Vec::new();
    log.by_ref().take(LogEncoding::MAGIC_LENGTH as u64).read_to_end(&mut first).context("cannot read the log")?;
    if let Some(encoding) = LogEncoding::detect(&first) {
        anyhow::bail!(conversion_hint(encoding, file));
    }
    Ok(Box::new(Cursor::new(first).chain(log)))
}

/// Names the command that turns an encoded log into text.
fn conversion_hint(encoding: LogEncoding, file: Option<&Path>) -> String {
    let what = file.map_or_else(|| "standard input".to_owned(), shown_path);
    // A name that a shell would interpret does not go into a command.
    let is_plain =
        |path: &&String| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@:,".contains(&byte));
    let name = Some(&what).filter(|_| file.is_some()).filter(is_plain).map_or("FILE", String::as_str);
    match encoding {
        LogEncoding::Compressed { format, unpack } => {
            format!("{what} is compressed by {format}; run: {unpack} {name} | harden-why explain -")
        }
        LogEncoding::Journal => {
            format!("{what} is a journal file; run: journalctl --file {name} -o export | harden-why explain -")
        }
    }
}
