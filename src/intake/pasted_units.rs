//! Unit files between the lines of a log: a whole file, or what `systemctl cat` printed.

use crate::units::UnitName;
use memchr::memmem;

/// The limits of unit files in one log: how many, and their length together in bytes.
const MAX_FILES: usize = 64;
const MAX_BYTES: usize = 1 << 20;

/// Sections by which a unit file is recognised.
const SECTIONS: [&str; 12] =
    ["Unit", "Service", "Socket", "Mount", "Automount", "Swap", "Slice", "Scope", "Timer", "Path", "Target", "Install"];

/// A unit file or drop-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PastedUnit {
    /// The path that `systemctl cat` printed above it; `None` for a file alone.
    pub(crate) path: Option<String>,
    /// Its text. Empty lines stand for the lines of the log above a file alone.
    pub(crate) text: Vec<u8>,
}

/// Collects unit files as a log is read.
#[derive(Debug, Default)]
pub(super) struct PastedUnitReader {
    files: Vec<PastedUnit>,
    bytes: usize,
    /// Whether the lines belong to the last file.
    is_inside: bool,
    /// Whether the last line is continued.
    is_continued: bool,
}

impl PastedUnitReader {
    /// Whether lines may hold a unit file, or a part of the one that was begun.
    pub(super) fn may_hold(&self, lines: &[u8]) -> bool {
        let begins = |words: &[u8]| memmem::find(lines, words).is_some();
        self.is_inside
            || [&b"[Unit]"[..], b"[Service]", b"[Socket]", b"[Mount]", b"[Swap]"].iter().any(|words| begins(words))
    }

    /// Reads a line; `number` is its place in the log, from 1.
    pub(super) fn read_line(&mut self, line: &[u8], number: u64) {
        let text = line.trim_ascii_end();
        if let Some(path) = parse_heading(text) {
            self.begin(Some(path), Vec::new());
        } else if is_section(text) {
            if !self.is_inside {
                let above = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX).min(MAX_BYTES);
                self.begin(None, vec![b'\n'; above]);
            }
            self.append(line);
        } else if self.is_inside {
            if self.is_continued || text.is_empty() || matches!(text.first(), Some(b'#' | b';')) || is_assignment(text)
            {
                self.append(line);
            } else {
                self.is_inside = false;
            }
        }
        self.is_continued = text.ends_with(b"\\");
    }

    fn begin(&mut self, path: Option<String>, text: Vec<u8>) {
        self.is_inside = self.files.len() < MAX_FILES;
        if self.is_inside {
            self.bytes += text.len();
            self.files.push(PastedUnit { path, text });
        }
    }

    fn append(&mut self, line: &[u8]) {
        let Some(file) = self.files.last_mut().filter(|_| self.is_inside && self.bytes + line.len() < MAX_BYTES) else {
            return;
        };
        self.bytes += line.len() + 1;
        file.text.extend_from_slice(line);
        file.text.push(b'\n');
    }

    /// Returns the files that have an assignment.
    pub(super) fn finish(self) -> Vec<PastedUnit> {
        let has_settings = |file: &PastedUnit| file.text.contains(&b'[') && file.text.contains(&b'=');
        self.files.into_iter().filter(has_settings).collect()
    }
}

/// Parses the comment that `systemctl cat` prints above each file: `# /etc/systemd/system/a.service`.
fn parse_heading(line: &[u8]) -> Option<String> {
    let path = str::from_utf8(line.strip_prefix(b"# ")?).ok()?;
    let (dir, name) = path.strip_prefix('/')?.rsplit_once('/')?;
    let is_unit = name.parse::<UnitName>().is_ok();
    let is_dropin = name.strip_suffix(".conf").is_some() && dir.strip_suffix(".d").is_some();
    let is_plain = !path.contains("/../") && !path.contains(char::is_control);
    (is_plain && (is_unit || is_dropin)).then(|| path.to_owned())
}

fn is_section(line: &[u8]) -> bool {
    let name = line.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    name.is_some_and(|name| SECTIONS.iter().any(|section| section.as_bytes() == name) || name.starts_with(b"X-"))
}

fn is_assignment(line: &[u8]) -> bool {
    let key = line.iter().position(|byte| *byte == b'=').map(|at| line[..at].trim_ascii());
    key.is_some_and(|key| {
        !key.is_empty() && key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(Option<String>, String)> {
        let mut reader = PastedUnitReader::default();
        for (number, line) in (1..).zip(text.lines()) {
            reader.read_line(line.as_bytes(), number);
        }
        reader.finish().into_iter().map(|file| (file.path, String::from_utf8(file.text).unwrap())).collect()
    }

    #[test]
    fn output_of_systemctl_cat_is_split_into_files() {
        let found = read(
            "$ systemctl cat a\n# /usr/lib/systemd/system/a.service\n# A comment\n[Service]\nExecStart=/a \\\n  -x\n\n# \
             /etc/systemd/system/a.service.d/o.conf\n[Service]\nUser=b\nthat is all\nKey=not a part\n",
        );
        assert_eq!(
            found,
            [
                (
                    Some("/usr/lib/systemd/system/a.service".to_owned()),
                    "# A comment\n[Service]\nExecStart=/a \\\n  -x\n\n".to_owned()
                ),
                (Some("/etc/systemd/system/a.service.d/o.conf".to_owned()), "[Service]\nUser=b\n".to_owned()),
            ]
        );
    }

    #[test]
    fn unit_file_alone_keeps_its_line_numbers() {
        let found = read("# mine\n[Unit]\nDescription=x\n[Service]\nUser=b\n");
        assert_eq!(found, [(None, "\n[Unit]\nDescription=x\n[Service]\nUser=b\n".to_owned())]);
        assert_eq!(read("[Service] was wrong\nNov 23 22:01:02 web a=b\n"), []);
        assert_eq!(read("# /etc/../../x/a.service\nUser=x\n"), []);
    }
}
