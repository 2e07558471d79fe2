//! Composes and reads the files of harden-why. Each begins with a mark. A file without the mark is another program's, and
//! stays as it is.

use super::error::DropInError;
use crate::audit::text::escape;
use std::fs;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The first words of every file of harden-why.
pub(crate) const MARK: &str = "# Written by harden-why";

/// harden-why writes no larger file.
const MAX_SIZE: u64 = 1 << 20;

/// Composes a drop-in. Its comments say when and why harden-why wrote it, and which command undoes it. `content` can
/// begin with more comments.
#[must_use]
pub(crate) fn compose(content: &str, when: &str, why: &str, undo: &str) -> String {
    // A line feed in a text would end the comment.
    let line = |text: &str| escape(text.as_bytes());
    format!("{MARK} on {}: {}\n# Undo: {}\n{content}", line(when), line(why), line(undo))
}

/// Reads a drop-in of harden-why; `None` if there is none.
///
/// # Errors
/// The file is another program's, or cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, DropInError> {
    let error = |source| DropInError::from_io(path, source);
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(source) => return Err(error(source)),
    };
    // harden-why makes no links, devices or pipes.
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(DropInError::Foreign(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    opened.and_then(|file| file.take(MAX_SIZE).read_to_end(&mut bytes)).map_err(error)?;
    if bytes.starts_with(MARK.as_bytes()) { Ok(Some(bytes)) } else { Err(DropInError::Foreign(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feed_in_a_comment_adds_no_line() {
        let text = compose("[Service]\n", "now", "a\n[Service]\nExecStart=/bin/evil", "x\ny");
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with(MARK));
    }
}
