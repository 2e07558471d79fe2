//! A private instance of tracefs: its own buffers and events, which nobody else's tracing meets.

use crate::kernel::procfs::Procfs;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where tracefs is mounted, or what mounts it by itself.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The start of our instances' names; pid and start time of the owner follow.
const PREFIX: &str = "harden-why-";

/// How much the buffers of all processors may take together, and that of one, in kilobytes.
const ALL_BUFFERS_KB: usize = 64 << 10;
const BUFFER_KB: (usize, usize) = (512, 8 << 10);

/// The longest of their files: one that lists threads.
const MOST: usize = 1 << 20;

/// An instance. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    dir: PathBuf,
    /// The events of each processor.
    pub(crate) pipes: Vec<File>,
}

impl Instance {
    /// Makes one that traces nothing yet.
    pub(crate) fn make() -> io::Result<Self> {
        let instances = instances().next().ok_or_else(|| {
            let why = "tracefs is not mounted at /sys/kernel/tracing (mount -t tracefs tracefs /sys/kernel/tracing)";
            io::Error::new(io::ErrorKind::NotFound, why)
        })?;
        let own = std::process::id();
        let started = Procfs::live().start_time(own).ok_or(io::ErrorKind::NotFound)?;
        let dir = instances.join(format!("{PREFIX}{own}-{started}"));
        fs::create_dir(&dir)?;
        // From here on it is removed whatever happens.
        let mut instance = Self { dir, pipes: Vec::new() };
        let cpus: Vec<PathBuf> = fs::read_dir(instance.dir.join("per_cpu"))?.flatten().map(|cpu| cpu.path()).collect();
        let (least, most) = BUFFER_KB;
        let buffer = (ALL_BUFFERS_KB / cpus.len().max(1)).clamp(least, most);
        instance.set("tracing_on", "0")?;
        instance.set("buffer_size_kb", &buffer.to_string())?;
        instance.set("trace_clock", "mono")?;
        instance.set("options/event-fork", "1")?;
        for cpu in cpus {
            let mut options = OpenOptions::new();
            let pipe = options.read(true).custom_flags(libc::O_NONBLOCK).open(cpu.join("trace_pipe_raw"))?;
            instance.pipes.push(pipe);
        }
        Ok(instance)
    }

    /// Writes to one of its files.
    pub(crate) fn set(&self, file: &str, value: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.dir.join(file))?.write_all(value.as_bytes())
    }

    /// Has the events of more threads traced, and of their children.
    pub(crate) fn trace(&self, tids: &[u32]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.dir.join("set_event_pid"))?;
        // A thread that is gone is taken all the same. The kernel takes a page at a time.
        for tids in tids.chunks(256) {
            let words: Vec<String> = tids.iter().map(ToString::to_string).collect();
            file.write_all(words.join(" ").as_bytes())?;
        }
        Ok(())
    }

    /// Reads one of its files.
    pub(crate) fn get(&self, file: &str) -> io::Result<String> {
        // Not all of them can be read piece by piece.
        let mut bytes = vec![0; MOST];
        let mut file = File::open(self.dir.join(file))?;
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..) {
            match file.read(rest)? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        String::from_utf8(bytes).map_err(io::Error::other)
    }

    /// How many events were overwritten before they were read.
    pub(crate) fn overrun(&self) -> u64 {
        let cpus = fs::read_dir(self.dir.join("per_cpu")).into_iter().flatten().flatten();
        let overrun = |cpu: &Path| -> Option<u64> {
            let stats = fs::read_to_string(cpu.join("stats")).ok()?;
            stats.lines().find_map(|line| line.strip_prefix("overrun: "))?.trim().parse().ok()
        };
        cpus.filter_map(|cpu| overrun(&cpu.path())).fold(0, u64::saturating_add)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        _ = self.set("tracing_on", "0");
        // An instance whose files are open stays.
        self.pipes.clear();
        _ = remove(&self.dir);
    }
}

/// Instances whose owner is gone.
pub(crate) fn leftovers() -> Vec<PathBuf> {
    let procfs = Procfs::live();
    let left = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(PREFIX));
        let owner = name.and_then(|name| name.split_once('-'));
        let owner = owner.and_then(|(pid, started)| Some((pid.parse().ok()?, started.parse().ok()?)));
        owner.is_some_and(|(pid, started): (u32, u64)| procfs.start_time(pid) != Some(started))
    };
    let entries = instances().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(left).collect();
    // Both places can show the same ones.
    found.dedup_by_key(|path| path.file_name().map(ToOwned::to_owned));
    found
}

/// Removes an instance, and with it all it traces.
pub(crate) fn remove(instance: &Path) -> io::Result<()> {
    fs::remove_dir(instance)
}

fn instances() -> impl Iterator<Item = PathBuf> {
    PLACES.into_iter().map(|place| Path::new(place).join("instances")).filter(|dir| dir.is_dir()).take(1)
}
