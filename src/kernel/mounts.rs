//! The mounts that a process sees (`/proc/PID/mountinfo`, `proc_pid_mountinfo(5)`), and which of them holds a path.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

/// How much of a mountinfo is read, and how much of it is kept. A user namespace can hold 100,000 mounts
/// (`/proc/sys/fs/mount-max`), and users can mount 1,000 FUSE file systems in that of the machine (`mount_max` in
/// fusermount3(1)): of up to 16 KB each here, as blanks are escaped, and of 4 KB once they are read.
const MOST_READ: u64 = 32 << 20;
const MOST_KEPT: usize = 8 << 20;

/// The mounts of a mount namespace, as a process with its root sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MountTable {
    mounts: Vec<Mount>,
    /// The index of the mount at `/`.
    root: Option<usize>,
    /// By the id of a mount, the indexes of those that are mounted on it.
    children: HashMap<u64, Vec<usize>>,
}

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
    ///
    /// # Errors
    /// The process is gone, or has more mounts than are read: a part of them would tell lies.
    pub(crate) fn read(process: &str) -> io::Result<Self> {
        let file = File::open(Path::new("/proc").join(process).join("mountinfo"))?;
        Self::read_from(file)
    }

    /// Reads the mounts of an opened mountinfo.
    pub(crate) fn read_from(file: impl io::Read) -> io::Result<Self> {
        let (mut file, mut line) = (BufReader::new(file.take(MOST_READ)), Vec::new());
        let (mut mounts, mut kept) = (Vec::new(), 0);
        while file.read_until(b'\n', &mut line)? > 0 {
            let mount = Mount::parse(line.strip_suffix(b"\n").unwrap_or(&line));
            kept += mount.as_ref().map_or(0, Mount::size);
            if kept > MOST_KEPT || file.get_ref().limit() == 0 {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too many mounts"));
            }
            mounts.extend(mount);
            line.clear();
        }
        if mounts.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(Self::new(mounts)) }
    }

    /// Reads the mounts of a text; none if there are too many.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self::read_from(bytes).unwrap_or_default()
    }

    fn new(mounts: Vec<Mount>) -> Self {
        let ids: HashSet<u64> = mounts.iter().map(|mount| mount.id).collect();
        let is_at_root = |mount: &Mount| mount.point == b"/";
        let root = mounts
            .iter()
            .position(|mount| is_at_root(mount) && !ids.contains(&mount.parent))
            .or_else(|| mounts.iter().position(is_at_root));
        let mut children: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, mount) in mounts.iter().enumerate().filter(|(_, mount)| mount.parent != mount.id) {
            children.entry(mount.parent).or_default().push(index);
        }
        Self { mounts, root, children }
    }

    /// Returns all mounts, in the order in which they were made.
    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Returns the number of mounts.
    pub(crate) fn len(&self) -> usize {
        self.mounts.len()
    }

    /// Returns the mount with an id.
    pub(crate) fn with_id(&self, id: u64) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }

    /// Returns the mount that holds an absolute path without links. It need not exist.
    pub(crate) fn holding(&self, path: &[u8]) -> Option<&Mount> {
        self.search(path).map(|(mount, _)| mount)
    }

    /// Returns the mount that holds a path, and how many mounts the search looked at.
    fn search(&self, path: &[u8]) -> Option<(&Mount, usize)> {
        let mut at = self.mounts.get(self.root?)?;
        let mut seen = 0;
        // Each mount is below another one. A mount at a path hides all that is mounted below this path on others. Each has
        // one parent, so this looks at each mount once at most, unless the table is malformed.
        while let Some(children) = self.children.get(&at.id) {
            seen += children.len().max(1);
            let covering =
                children.iter().filter_map(|index| self.mounts.get(*index)).filter(|mount| mount.covers(path));
            match covering.min_by_key(|mount| mount.point.len()) {
                Some(mount) => at = mount,
                None => break,
            }
            if seen >= self.mounts.len() {
                break;
            }
        }
        Some((at, seen))
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

    fn size(&self) -> usize {
        let Self { id: _, parent: _, device, root, point, options, fs_type, super_options } = self;
        size_of::<Self>() + [device, root, point, options, fs_type, super_options].map(Vec::len).iter().sum::<usize>()
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

    /// Returns the value of an option of its file system, such as `gid=5`.
    pub(crate) fn super_value(&self, name: &str) -> Option<&str> {
        let mut options = self.super_options.split(|&byte| byte == b',');
        let value = options.find_map(|option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        str::from_utf8(value).ok()
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

/// Whether this process is in a chroot(2), such as one that packages are built in: no mount is at its root. Tests of mounts then
/// say nothing.
#[cfg(test)]
pub(crate) fn is_in_chroot() -> bool {
    MountTable::read("self").is_ok_and(|table| table.root.is_none())
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
    fn long_names_of_a_users_mounts_hide_no_other_mount() {
        let blanks = "\\040".repeat(3_900);
        let of_user =
            (2..1_000).map(|id| format!("{id} 1 0:{id} / /home/u/{blanks}{id} rw - fuse.x x rw,user_id=1000\n"));
        let text = of_user.fold("1 0 8:1 / / rw - ext4 /dev/x rw\n".to_owned(), |text, line| text + &line);
        assert_eq!(MountTable::read_from(text.as_bytes()).unwrap().holding(b"/etc/x").map(|mount| mount.id), Some(1));
        let many = text.repeat(3);
        assert!(MountTable::read_from(many.as_bytes()).is_err(), "more than {MOST_READ} bytes");
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
    fn table_of_too_many_mounts_is_an_error_and_a_deep_one_is_searched_once() {
        let line = |id: u64| format!("{id} {} 0:1 / / rw - tmpfs x rw\n", id - 1);
        let deep: String = (1..=20_000).map(line).collect();
        let table = MountTable::read_from(deep.as_bytes()).unwrap();
        let (mount, seen) = table.search(b"/x").unwrap();
        assert_eq!((mount.id, seen), (20_000, 19_999), "each mount once, not the whole table for each level");
        let endless = io::repeat(b'x');
        assert_eq!(MountTable::read_from(endless).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn own_mounts_are_read() {
        if is_in_chroot() {
            return;
        }
        let table = MountTable::read("self").unwrap();
        assert_eq!(table.holding(b"/proc/self/status").unwrap().fs_type, b"proc");
        assert!(MountTable::read("0").is_err());
    }
}
