//! What an administrator may set: TOML in `harden-why/harden-why.conf` and `harden-why/harden-why.conf.d/*.conf`, below
//! `/etc`, `/run` and `/usr/lib` in systemd's order.
//!
//! What is wrong is said with file, line and key, and changes nothing.

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

/// Every key, by section.
const KEYS: [(&str, &str, Setter); 7] = [
    ("store", "keep-days", |config, value| {
        config.keep = Duration::from_hours(24 * number(value, 1, 36_500)?);
        Ok(())
    }),
    ("store", "most-incidents", |config, value| {
        config.most_stored = small(number(value, 100, 10_000_000)?);
        Ok(())
    }),
    ("memory", "most-incidents", |config, value| {
        config.most_in_memory = usize::try_from(number(value, 256, 1_000_000)?).unwrap_or(usize::MAX);
        Ok(())
    }),
    ("alerts", "again-after-minutes", |config, value| {
        config.alerts.quiet = Duration::from_mins(number(value, 1, 10_080)?);
        Ok(())
    }),
    ("alerts", "burst", |config, value| {
        config.alerts.burst = small(number(value, 1, 10_000)?);
        Ok(())
    }),
    ("alerts", "window-seconds", |config, value| {
        config.alerts.window = Duration::from_secs(number(value, 1, 3_600)?);
        Ok(())
    }),
    ("alerts", "mute", |config, value| {
        config.alerts.mute = units(value)?;
        Ok(())
    }),
];

impl Config {
    /// What the files below a root say, usually `/`, and what is wrong with them.
    #[must_use]
    pub fn load(root: &Path) -> (Self, Vec<Complaint>) {
        Self::of(files::all(root))
    }

    /// What one file says.
    #[must_use]
    pub fn of_file(file: &Path) -> (Self, Vec<Complaint>) {
        Self::of(vec![file.to_owned()])
    }

    fn of(files: Vec<PathBuf>) -> (Self, Vec<Complaint>) {
        let (mut config, mut complaints) = (Self::default(), Vec::new());
        for file in files {
            match files::read(&file) {
                Ok(text) => config.take(&file, &text, &mut complaints),
                Err(what) => complaints.push(Complaint { file, line: None, key: None, what }),
            }
        }
        (config, complaints)
    }

    /// Takes over what a file sets.
    fn take(&mut self, file: &Path, text: &str, complaints: &mut Vec<Complaint>) {
        let line_at = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let mut complain = |at: Option<usize>, key: Option<String>, what: String| {
            complaints.push(Complaint { file: file.to_owned(), line: at.map(line_at), key, what });
        };
        let (tables, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let what = format!("{}; what the line says has no effect", error.message());
            complain(error.span().map(|span| span.start), None, what);
        }
        for (section, keys) in tables.get_ref() {
            let name = section.get_ref();
            let known = KEYS.iter().any(|(known, ..)| known == name);
            let (Some(keys), true) = (keys.get_ref().as_table(), known) else {
                let what = if known {
                    format!("has to be a section: write [{name}], and its keys below; it has no effect")
                } else {
                    format!("there is no such section; there are {}", listing(KEYS.map(|(name, ..)| name)))
                };
                complain(Some(section.span().start), Some(name.to_string()), what);
                continue;
            };
            for (key, value) in keys {
                let full = format!("{name}.{}", key.get_ref());
                if let Err(what) = self.set(name, key.get_ref(), value) {
                    complain(Some(key.span().start), Some(full), what);
                }
            }
        }
    }

    fn set(&mut self, section: &str, key: &str, value: &Spanned<DeValue<'_>>) -> Result<(), String> {
        let of_section = || KEYS.into_iter().filter(|(name, ..)| *name == section);
        let Some((.., set)) = of_section().find(|(_, name, _)| *name == key) else {
            let names = listing(of_section().map(|(_, name, _)| name));
            return Err(format!("there is no such key; there are {names}"));
        };
        set(self, value.get_ref()).map_err(|what| format!("has to be {what}; it has no effect"))
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
        let (mut config, mut complaints) = (Config::default(), Vec::new());
        config.take(Path::new("/etc/x.conf"), text, &mut complaints);
        (config, complaints.iter().map(ToString::to_string).collect())
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
        for (_, key, _) in KEYS {
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
        let (config, complaints) = Config::load(root.path());
        assert_eq!((config.alerts.burst, config.alerts.window.as_secs(), complaints.len()), (2, 10, 0));
        write("usr/lib/harden-why/harden-why.conf.d/50-a.conf", "[alerts]\nburst = 3\n");
        write("run/harden-why/harden-why.conf.d/10-b.conf", "[alerts]\nburst = 4\nwindow-seconds = 4\n");
        let (config, _) = Config::load(root.path());
        assert_eq!((config.alerts.burst, config.alerts.window.as_secs()), (3, 4), "the later name wins");
        write("etc/harden-why/harden-why.conf.d/50-a.conf", "");
        write("etc/harden-why/harden-why.conf.d/60-c.txt", "[alerts]\nburst = 9\n");
        assert_eq!(Config::load(root.path()).0.alerts.burst, 4, "a file of the same name takes its place");
        fs::write(root.path().join("etc/harden-why/harden-why.conf"), [0xff]).unwrap();
        let (config, complaints) = Config::load(root.path());
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
            let (config, complaints) = Config::load(root.path());
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
