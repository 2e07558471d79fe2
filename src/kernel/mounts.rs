//! The mounts that a process sees (`/proc/PID/mountinfo`, `proc_pid_mountinfo(5)`), and which of them holds a path.

use std::fs;
use std::path::Path;

/// How much of a mountinfo is read: a process can have any number of mounts.
const MOST: usize = 4 << 20;

/// The mounts of a mount namespace, as a process with its root sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MountTable(Vec<Mount>);

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    id: u64,
    parent: u64,
    /// The device of its file system, as `MAJOR:MINOR`.
    device: Vec<u8>,
    /// The directory of the file system that is mounted.
    pub(crate) root: Vec<u8>,
    /// Where it is mounted.
    pub(crate) point: Vec<u8>,
    options: Vec<u8>,
    pub(crate) fs_type: Vec<u8>,
    super_options: Vec<u8>,
}

impl MountTable {
    /// Reads the mounts of a process, or of this one for `self`.
    pub(crate) fn read(process: &str) -> Option<Self> {
        let bytes = fs::read(Path::new("/proc").join(process).join("mountinfo")).ok()?;
        let table = Self::parse(bytes.get(..MOST).unwrap_or(&bytes));
        (!table.0.is_empty()).then_some(table)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self(bytes.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// Returns the mount that holds an absolute path without links. It need not exist.
    pub(crate) fn holding(&self, path: &[u8]) -> Option<&Mount> {
        let is_root = |mount: &&Mount| mount.point == b"/" && self.0.iter().all(|other| other.id != mount.parent);
        let mut at = self.0.iter().find(is_root).or_else(|| self.0.iter().find(|mount| mount.point == b"/"))?;
        // Each mount is below another one. A mount at a path hides all that is mounted below this path on others.
        for _ in 0..self.0.len() {
            let inner = self.0.iter().filter(|mount| mount.parent == at.id && mount.id != at.id && mount.covers(path));
            match inner.min_by_key(|mount| mount.point.len()) {
                Some(mount) => at = mount,
                None => break,
            }
        }
        Some(at)
    }
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let (device, root, point, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (fs_type, _source, super_options) = (rest.next()?, rest.next()?, rest.next()?);
        Some(Self {
            id,
            parent,
            device: device.to_vec(),
            root: unescape(root),
            point: unescape(point),
            options: options.to_vec(),
            fs_type: fs_type.to_vec(),
            super_options: super_options.to_vec(),
        })
    }

    fn covers(&self, path: &[u8]) -> bool {
        self.rest(path).is_some()
    }

    /// Returns the part of a path below the mount point, with its slash.
    fn rest<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let point = self.point.strip_suffix(b"/").unwrap_or(&self.point);
        path.strip_prefix(point).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// Whether the mount has an option, such as `ro`.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.split(|&byte| byte == b',').any(|own| own == option.as_bytes())
    }

    /// Whether its file system has an option.
    pub(crate) fn has_super(&self, option: &str) -> bool {
        self.super_options.split(|&byte| byte == b',').any(|own| own == option.as_bytes())
    }

    /// Returns the device, and the path on it, of a path that this mount holds. Two paths with the same are one file.
    pub(crate) fn place(&self, path: &[u8]) -> (&[u8], Vec<u8>) {
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        (&self.device, [root, self.rest(path).unwrap_or_default()].concat())
    }
}

/// Undoes the escapes of blanks, tabs, line feeds and backslashes (`\040`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        let value = octal.map(|digits| digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0')));
        if let Some(byte) = value.and_then(|value| u8::try_from(value).ok()) {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        30 22 254:0 /usr /usr ro,relatime shared:2 master:1 - ext4 /dev/vda rw\n\
        31 22 0:40 / /home ro,nosuid - tmpfs tmpfs rw,mode=755\n\
        29 31 254:0 /x /home/a\\040b rw - ext4 /dev/vda rw\n\
        28 22 254:0 /old /home/old rw - ext4 /dev/vda rw\n\
        33 30 0:41 / /usr/x rw,noexec - tmpfs tmpfs rw\n\
        34 33 0:42 / /usr/x rw - tmpfs tmpfs ro\n";

    #[test]
    fn path_is_held_by_the_mount_that_hides_the_others() {
        let table = MountTable::parse(TABLE);
        let id = |path: &str| table.holding(path.as_bytes()).unwrap().id;
        for (path, expected) in [
            ("/", 22),
            ("/etc/passwd", 22),
            ("/usr", 30),
            ("/usrx", 22),
            ("/usr/lib/x", 30),
            ("/usr/x/y", 34),
            ("/home/a b/c", 29),
            ("/home/a", 31),
            ("/home/old/x", 31),
        ] {
            assert_eq!(id(path), expected, "{path}");
        }
        assert_eq!(MountTable::default().holding(b"/"), None);
    }

    #[test]
    fn options_and_places_are_those_of_the_mount() {
        let table = MountTable::parse(TABLE);
        let usr = table.holding(b"/usr/lib").unwrap();
        assert!(usr.has("ro") && !usr.has_super("ro") && usr.has_super("rw") && !usr.has("r"));
        assert_eq!(usr.place(b"/usr/lib"), (&b"254:0"[..], b"/usr/lib".to_vec()));
        assert_eq!(table.holding(b"/home/a b/c").unwrap().place(b"/home/a b/c").1, b"/x/c");
        assert_eq!(table.holding(b"/").unwrap().place(b"/").1, b"/");
    }

    #[test]
    fn circle_of_mounts_and_malformed_lines_end() {
        let table = MountTable::parse(
            b"1 2 0:1 / / rw - a b rw\n2 1 0:1 / / rw - a b rw\n\n1 x\n\xff\n3 1 0:1 / /a\\9 rw - a b\n",
        );
        assert!(table.holding(b"/x").is_some());
        assert_eq!(unescape(b"a\\040\\13\\777\\"), b"a \\13\\777\\");
    }

    #[test]
    fn own_mounts_are_read() {
        let table = MountTable::read("self").unwrap();
        assert_eq!(table.holding(b"/proc/self/status").unwrap().fs_type, b"proc");
        assert_eq!(MountTable::read("0"), None);
    }
}
