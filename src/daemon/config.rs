//! What an administrator may set: TOML in `harden-why/harden-why.conf` and `harden-why/harden-why.conf.d/*.conf`, below
//! `/etc`, `/run` and `/usr/lib` in systemd's order.
//!
//! What is wrong is said with file, line and key, and changes nothing: what held before holds on.

mod files;

use crate::audit::text::escape;
use crate::units::UnitName;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long an incident that is not seen again is kept.
    pub keep: Duration,
    /// How many incidents are kept at most.
    pub most_stored: u32,
    /// How many incidents are held in memory.
    pub most_in_memory: usize,
    /// When to alert.
    pub alerts: Alerting,
}

/// When to alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerting {
    /// How long an incident is not told of again.
    pub quiet: Duration,
    /// So many alerts in a window are a storm.
    pub burst: u32,
    /// How long the window is.
    pub window: Duration,
    /// Units whose incidents are stored, but not told of.
    pub mute: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep: Duration::from_hours(90 * 24),
            most_stored: 100_000,
            most_in_memory: 8 << 10,
            alerts: Alerting::default(),
        }
    }
}

impl Default for Alerting {
    fn default() -> Self {
        Self { quiet: Duration::from_hours(1), burst: 20, window: Duration::from_secs(10), mute: BTreeSet::new() }
    }
}

impl Alerting {
    /// Whether nobody wants to be told of a unit; a template stands for all its instances.
    #[must_use]
    pub fn mutes(&self, unit: &UnitName) -> bool {
        self.mute.contains(unit.as_str()) || unit.template().is_some_and(|template| self.mute.contains(&template))
    }
}

/// Something that was wrong, and had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Where.
    pub file: PathBuf,
    /// In which line, where it is in one.
    pub line: Option<usize>,
    /// Of which key, `section.key`, where it is of one.
    pub key: Option<String>,
    /// What.
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", escape(self.file.as_os_str().as_encoded_bytes()))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {}", escape(key.as_bytes()))?;
        }
        write!(f, ": {}", escape(self.what.as_bytes()))
    }
}

/// How a key is understood: takes a value over, or says what it has to be.
type Setter = fn(&mut Config, &DeValue<'_>) -> Result<(), String>;

/// How what held of a key before is taken over.
type Keeper = fn(&mut Config, &Config);

/// Every key, by section.
const KEYS: [(&str, &str, Setter, Keeper); 7] = [
    (
        "store",
        "keep-days",
        |config, value| {
            config.keep = Duration::from_hours(24 * number(value, 1, 36_500)?);
            Ok(())
        },
        |config, before| config.keep = before.keep,
    ),
    (
        "store",
        "most-incidents",
        |config, value| {
            config.most_stored = small(number(value, 100, 10_000_000)?);
            Ok(())
        },
        |config, before| config.most_stored = before.most_stored,
    ),
    (
        "memory",
        "most-incidents",
        |config, value| {
            config.most_in_memory = usize::try_from(number(value, 256, 1_000_000)?).unwrap_or(usize::MAX);
            Ok(())
        },
        |config, before| config.most_in_memory = before.most_in_memory,
    ),
    (
        "alerts",
        "again-after-minutes",
        |config, value| {
            config.alerts.quiet = Duration::from_mins(number(value, 1, 10_080)?);
            Ok(())
        },
        |config, before| config.alerts.quiet = before.alerts.quiet,
    ),
    (
        "alerts",
        "burst",
        |config, value| {
            config.alerts.burst = small(number(value, 1, 10_000)?);
            Ok(())
        },
        |config, before| config.alerts.burst = before.alerts.burst,
    ),
    (
        "alerts",
        "window-seconds",
        |config, value| {
            config.alerts.window = Duration::from_secs(number(value, 1, 3_600)?);
            Ok(())
        },
        |config, before| config.alerts.window = before.alerts.window,
    ),
    (
        "alerts",
        "mute",
        |config, value| {
            config.alerts.mute = units(value)?;
            Ok(())
        },
        |config, before| config.alerts.mute.clone_from(&before.alerts.mute),
    ),
];

impl Config {
    /// What the files below a root say, usually `/`, and what is wrong with them, where `before` held until now.
    #[must_use]
    pub fn load(root: &Path, before: &Self) -> (Self, Vec<Complaint>) {
        Self::of(files::all(root), before)
    }

    /// What one file says.
    #[must_use]
    pub fn of_file(file: &Path, before: &Self) -> (Self, Vec<Complaint>) {
        Self::of(vec![file.to_owned()], before)
    }

    fn of(files: Vec<PathBuf>, before: &Self) -> (Self, Vec<Complaint>) {
        let mut reading = Reading::default();
        for file in files {
            match files::read(&file) {
                Ok(text) => reading.take(&file, &text),
                Err(what) => {
                    reading.unread = true;
                    reading.complaints.push(Complaint { file, line: None, key: None, what });
                }
            }
        }
        reading.finish(before)
    }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    config: Config,
    complaints: Vec<Complaint>,
    /// The keys, by place in [`KEYS`], that were set, and those that were set to what they cannot be.
    set: BTreeSet<usize>,
    wrong: BTreeSet<usize>,
    /// There are files or lines of which nothing is known.
    unread: bool,
}

impl Reading {
    /// Takes over what a file sets.
    fn take(&mut self, file: &Path, text: &str) {
        let line_at = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let complaint = |at: Option<usize>, key: Option<String>, what: String| Complaint {
            file: file.to_owned(),
            line: at.map(line_at),
            key,
            what,
        };
        let (tables, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.unread = true;
            let what = format!("{}; what the line says has no effect", error.message());
            self.complaints.push(complaint(error.span().map(|span| span.start), None, what));
        }
        for (section, keys) in tables.get_ref() {
            let name = section.get_ref();
            let known = KEYS.iter().any(|(known, ..)| known == name);
            let (Some(keys), true) = (keys.get_ref().as_table(), known) else {
                let what = if known {
                    self.unread = true;
                    format!("has to be a section: write [{name}], and its keys below; it has no effect")
                } else {
                    self.unread = true;
                    format!("there is no such section; there are {}", listing(KEYS.map(|(name, ..)| name)))
                };
                self.complaints.push(complaint(Some(section.span().start), Some(name.to_string()), what));
                continue;
            };
            for (key, value) in keys {
                let full = format!("{name}.{}", key.get_ref());
                if let Err(what) = self.set(name, key.get_ref(), value) {
                    self.complaints.push(complaint(Some(key.span().start), Some(full), what));
                }
            }
        }
    }

    fn set(&mut self, section: &str, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), String> {
        let mut of_section = KEYS.iter().enumerate().filter(|(_, (name, ..))| *name == section);
        let Some((place, (_, _, set, _))) = of_section.clone().find(|(_, (_, name, ..))| *name == key) else {
            self.unread = true;
            let names = listing(of_section.by_ref().map(|(_, (_, name, ..))| *name));
            return Err(format!("there is no such key; there are {names}"));
        };
        match set(&mut self.config, value.get_ref()) {
            Ok(()) => {
                self.set.insert(place);
                Ok(())
            }
            Err(what) => {
                self.wrong.insert(place);
                Err(format!("has to be {what}; it has no effect"))
            }
        }
    }

    /// What holds from now on: of keys that are set to nothing they can be, or perhaps are where nothing could be read,
    /// what held before.
    fn finish(mut self, before: &Config) -> (Config, Vec<Complaint>) {
        for (place, (.., keep)) in KEYS.iter().enumerate() {
            if !self.set.contains(&place) && (self.unread || self.wrong.contains(&place)) {
                keep(&mut self.config, before);
            }
        }
        (self.config, self.complaints)
    }
}

fn number(value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, String> {
    let what = || format!("a whole number from {least} to {most}");
    let number = value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    number.filter(|number| (least..=most).contains(number)).ok_or_else(what)
}

/// A number whose range was checked.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn units(value: &DeValue<'_>) -> Result<BTreeSet<String>, String> {
    let what = || "a list of unit names such as [\"a.service\", \"b@.service\"]".to_owned();
    let names = value.as_array().ok_or_else(what)?;
    let name = |name: &Spanned<DeValue<'_>>| {
        let name = name.get_ref().as_str()?;
        UnitName::from_user(name).ok().map(|unit| unit.to_string())
    };
    names.iter().map(name).collect::<Option<_>>().ok_or_else(what)
}

fn listing<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn of(text: &str) -> (Config, Vec<String>) {
        after(&Config::default(), text)
    }

    fn after(before: &Config, text: &str) -> (Config, Vec<String>) {
        let mut reading = Reading::default();
        reading.take(Path::new("/etc/x.conf"), text);
        let (config, complaints) = reading.finish(before);
        (config, complaints.iter().map(ToString::to_string).collect())
    }

    fn load(root: &Path) -> (Config, Vec<Complaint>) {
        Config::load(root, &Config::default())
    }

    #[test]
    fn what_is_wrong_leaves_what_held_before() {
        let (before, _) = of("[store]\nkeep-days = 7\n[alerts]\nburst = 3\nwindow-seconds = 60\nmute = [\"a\"]\n");
        let (config, complaints) = after(&before, "[store]\nkeep-days = 0\n[alerts]\nburst = 4\n");
        assert_eq!(complaints.len(), 1);
        let alerts = Alerting { burst: 4, ..Alerting::default() };
        assert_eq!(config, Config { keep: before.keep, alerts, ..Config::default() }, "what is gone is at its default");
        // Nobody knows which key it was.
        let (config, complaints) = after(&before, "[alerts]\nburst = 4\n= 3\n");
        assert!(!complaints.is_empty());
        assert_eq!(config.keep, before.keep);
        assert_eq!((config.alerts.window, config.alerts.mute.len()), (before.alerts.window, 1));
        // Of several files each says something, and one is wrong.
        let mut reading = Reading::default();
        reading.take(Path::new("/etc/a.conf"), "[alerts]\nburst = 5\n");
        reading.take(Path::new("/etc/b.conf"), "[alerts]\nburst = 0\n");
        assert_eq!(reading.finish(&before).0.alerts.burst, 5);
    }

    #[test]
    fn every_key_is_taken() {
        let (config, complaints) =
            of("[store]\nkeep-days = 7\nmost-incidents = 1_000\n[memory]\nmost-incidents = 512\n\
             [alerts]\nagain-after-minutes = 5\nburst = 3\nwindow-seconds = 60\nmute = [\"a\", \"b@.socket\"]\n");
        assert_eq!(complaints, [""; 0]);
        let expected = Config {
            keep: Duration::from_hours(7 * 24),
            most_stored: 1_000,
            most_in_memory: 512,
            alerts: Alerting {
                quiet: Duration::from_mins(5),
                burst: 3,
                window: Duration::from_mins(1),
                mute: ["a.service", "b@.socket"].map(str::to_owned).into(),
            },
        };
        assert_eq!(config, expected);
        let mutes = |name: &str| config.alerts.mutes(&name.parse().unwrap());
        assert!(mutes("a.service") && mutes("b@1.socket") && !mutes("a.socket") && !mutes("b.socket"));
    }

    #[test]
    fn what_is_wrong_is_said_with_file_line_and_key_and_changes_nothing() {
        let (config, complaints) = of("# all wrong\n[store]\nkeep-days = 0\nmost-incidents = \"many\"\nfor = 1\n\n\
             [alerts]\nmute = [\"../x\"]\nburst = 4 4\nwindow-seconds = 30\n[\"\\u001b[2J\"]\nx = 1\n");
        let last = Alerting { window: Duration::from_secs(30), ..Alerting::default() };
        assert_eq!(config, Config { alerts: last, ..Config::default() });
        let mut expected = [
            "/etc/x.conf:3: store.keep-days: has to be a whole number from 1 to 36500; it has no effect",
            "/etc/x.conf:4: store.most-incidents: has to be a whole number from 100 to 10000000; it has no effect",
            "/etc/x.conf:5: store.for: there is no such key; there are keep-days, most-incidents",
            "/etc/x.conf:8: alerts.mute: has to be a list of unit names such as [\"a.service\", \"b@.service\"]; it has \
             no effect",
            "/etc/x.conf:11: \\x1b[2J: there is no such section; there are alerts, memory, store",
        ]
        .to_vec();
        let mut said: Vec<&str> = complaints.iter().map(String::as_str).collect();
        said.retain(|text| !text.starts_with("/etc/x.conf:9: "));
        assert!(complaints.len() > said.len(), "the line that is none is said, too: {complaints:#?}");
        said.sort_unstable();
        expected.sort_unstable();
        assert_eq!(said, expected);
    }

    #[test]
    fn a_section_that_is_none_is_said() {
        let none = "has to be a section: write [store], and its keys below; it has no effect";
        let said = [format!("/etc/x.conf:1: store: {none}")];
        assert_eq!(of("store = 5\n"), (Config::default(), said.to_vec()));
        assert_eq!(of("[[store]]\nkeep-days = 5\n").0, Config::default());
        assert!(of("[[store]]\nkeep-days = 5\n").1[0].ends_with(none));
    }

    #[test]
    fn what_is_shipped_shows_every_default_and_sets_none() {
        let text = include_str!("../../packaging/harden-why.conf");
        assert_eq!(of(text), (Config::default(), vec![]));
        let shown: String = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| line.starts_with('[') || line.contains(" = "))
            .flat_map(|line| [line, "\n"])
            .collect();
        for (_, key, ..) in KEYS {
            assert!(shown.contains(&format!("{key} = ")), "{key} in {shown}");
        }
        assert_eq!(of(&shown), (Config::default(), vec![]));
    }

    #[test]
    fn drop_ins_come_in_the_order_of_their_names_and_etc_wins() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/lib/harden-why/harden-why.conf", "[alerts]\nburst = 1\nwindow-seconds = 1\n");
        write("etc/harden-why/harden-why.conf", "[alerts]\nburst = 2\n");
        let (config, complaints) = load(root.path());
        assert_eq!((config.alerts.burst, config.alerts.window.as_secs(), complaints.len()), (2, 10, 0));
        write("usr/lib/harden-why/harden-why.conf.d/50-a.conf", "[alerts]\nburst = 3\n");
        write("run/harden-why/harden-why.conf.d/10-b.conf", "[alerts]\nburst = 4\nwindow-seconds = 4\n");
        let (config, _) = load(root.path());
        assert_eq!((config.alerts.burst, config.alerts.window.as_secs()), (3, 4), "the later name wins");
        write("etc/harden-why/harden-why.conf.d/50-a.conf", "");
        write("etc/harden-why/harden-why.conf.d/60-c.txt", "[alerts]\nburst = 9\n");
        assert_eq!(load(root.path()).0.alerts.burst, 4, "a file of the same name takes its place");
        fs::write(root.path().join("etc/harden-why/harden-why.conf"), [0xff]).unwrap();
        let (config, complaints) = load(root.path());
        assert_eq!((config.alerts.burst, complaints.len()), (4, 1), "{complaints:?}");
        assert!(complaints[0].to_string().ends_with("etc/harden-why/harden-why.conf: is not UTF-8"));
    }

    #[test]
    fn a_directory_is_no_file_and_a_device_masks() {
        let root = tempfile::tempdir().unwrap();
        let [etc, usr] = ["etc", "usr/local/lib"].map(|place| root.path().join(place).join("harden-why"));
        for place in [&etc, &usr] {
            fs::create_dir_all(place.join("harden-why.conf.d")).unwrap();
        }
        fs::write(usr.join("harden-why.conf"), "[alerts]\nburst = 2\n").unwrap();
        fs::write(usr.join("harden-why.conf.d/x.conf"), "[alerts]\nwindow-seconds = 3\n").unwrap();
        let set = || {
            let (config, complaints) = load(root.path());
            let complaints: Vec<String> = complaints.iter().map(ToString::to_string).collect();
            (config.alerts.burst, config.alerts.window.as_secs(), complaints)
        };
        assert_eq!(set(), (2, 3, vec![]));
        for name in ["harden-why.conf", "harden-why.conf.d/x.conf"] {
            fs::create_dir(etc.join(name)).unwrap();
        }
        let (burst, window, complaints) = set();
        assert_eq!((burst, window), (2, 3), "they take no file's place");
        for name in ["harden-why.conf", "harden-why.conf.d/x.conf"] {
            let path = etc.join(name).display().to_string();
            let said = format!("{path}: has to be a file, and is a directory; it has no effect");
            assert!(complaints.contains(&said), "{said} is not in {complaints:?}");
            fs::remove_dir(etc.join(name)).unwrap();
            std::os::unix::fs::symlink("/dev/null", etc.join(name)).unwrap();
        }
        assert_eq!((complaints.len(), set()), (2, (20, 10, vec![])), "/dev/null masks");
    }
}
