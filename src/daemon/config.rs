//! The configuration: TOML in `harden-why/harden-why.conf` and `harden-why/harden-why.conf.d/*.conf`, below `/etc`,
//! `/run`, `/usr/local/lib` and `/usr/lib` in systemd's order.
//!
//! The daemon reports a wrong setting with file, line and key. If no file sets the key to a valid value, the previous
//! value stays in force.

mod config_files;

use crate::audit::text::escape;
use crate::units::UnitName;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// How long the store keeps an incident that is not seen again.
    pub(crate) max_age: Duration,
    /// How many incidents the store keeps.
    pub(crate) max_stored: u32,
    /// How many incidents the daemon holds in memory.
    pub(crate) max_in_memory: usize,
    /// Which incidents get an alert.
    pub(crate) alerts: AlertLimits,
    /// Whether the daemon watches failed calls.
    pub(crate) watches_calls: bool,
}

/// Which incidents get an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlertLimits {
    /// How long after an alert its incident gets no other.
    pub(crate) quiet: Duration,
    /// How many alerts a window allows before a storm begins.
    pub(crate) burst: u32,
    /// The length of the window.
    pub(crate) window: Duration,
    /// Units whose incidents are stored without an alert.
    pub(crate) mute: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_age: Duration::from_hours(90 * 24),
            max_stored: 100_000,
            max_in_memory: 8 << 10,
            alerts: AlertLimits::default(),
            watches_calls: true,
        }
    }
}

impl Default for AlertLimits {
    fn default() -> Self {
        Self { quiet: Duration::from_hours(1), burst: 20, window: Duration::from_secs(10), mute: BTreeSet::new() }
    }
}

impl AlertLimits {
    /// Whether `mute` lists a unit. A template stands for all its instances.
    #[must_use]
    pub(crate) fn mutes(&self, unit: &UnitName) -> bool {
        self.mute.contains(unit.as_str())
            || unit.template_name().is_some_and(|template| self.mute.contains(template.as_str()))
    }
}

/// A setting that was wrong and had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line, if the complaint concerns one.
    pub(crate) line: Option<usize>,
    /// The key as `section.key`, if the complaint concerns one.
    pub(crate) key: Option<String>,
    /// What is wrong.
    pub(crate) what: String,
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

/// Sets a key to a value, or returns a description of valid values.
type Setter = fn(&mut Config, &DeValue<'_>) -> Result<(), String>;

/// Copies a key from the previous configuration.
type Restorer = fn(&mut Config, &Config);

/// Every key, with its section.
const KEYS: [(&str, &str, Setter, Restorer); 8] = [
    (
        "store",
        "keep-days",
        |config, value| {
            config.max_age = Duration::from_hours(24 * number(value, 1, 36_500)?);
            Ok(())
        },
        |config, before| config.max_age = before.max_age,
    ),
    (
        "store",
        "most-incidents",
        |config, value| {
            config.max_stored = small(number(value, 100, 10_000_000)?);
            Ok(())
        },
        |config, before| config.max_stored = before.max_stored,
    ),
    (
        "memory",
        "most-incidents",
        |config, value| {
            config.max_in_memory = usize::try_from(number(value, 256, 1_000_000)?).unwrap_or(usize::MAX);
            Ok(())
        },
        |config, before| config.max_in_memory = before.max_in_memory,
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
    (
        "failed-calls",
        "watch",
        |config, value| {
            config.watches_calls = value.as_bool().ok_or_else(|| "true or false".to_owned())?;
            Ok(())
        },
        |config, before| config.watches_calls = before.watches_calls,
    ),
];

impl Config {
    /// Reads the files below a root, usually `/`. Returns the settings, and complaints about the files. `before` is the
    /// configuration in force until now.
    #[must_use]
    pub(crate) fn load(root: &Path, before: &Self) -> (Self, Vec<Complaint>) {
        Self::read_files(config_files::find(root), before)
    }

    /// Reads one file instead of the machine's, as [`load`](Self::load) does.
    #[must_use]
    pub(crate) fn load_file(file: &Path, before: &Self) -> (Self, Vec<Complaint>) {
        Self::read_files(vec![file.to_owned()], before)
    }

    fn read_files(files: Vec<PathBuf>, before: &Self) -> (Self, Vec<Complaint>) {
        let mut reader = ConfigReader::default();
        for file in files {
            match config_files::read(&file) {
                Ok(text) => reader.read_file(&file, &text),
                Err(what) => {
                    reader.has_gaps = true;
                    reader.complaints.push(Complaint { file, line: None, key: None, what });
                }
            }
        }
        reader.finish(before)
    }
}

/// The settings read so far.
#[derive(Debug, Default)]
struct ConfigReader {
    config: Config,
    complaints: Vec<Complaint>,
    /// The keys with a valid value in some file, by index in [`KEYS`].
    set: BTreeSet<usize>,
    /// The keys with a wrong value in some file, by index in [`KEYS`].
    wrong: BTreeSet<usize>,
    /// Whether a file, line, section or key was not understood. It may have been meant for any key.
    has_gaps: bool,
}

impl ConfigReader {
    /// Applies the settings of a file.
    fn read_file(&mut self, file: &Path, text: &str) {
        let line_at = |at: usize| 1 + memchr::memchr_iter(b'\n', text.as_bytes().get(..at).unwrap_or_default()).count();
        let complaint = |at: Option<usize>, key: Option<String>, what: String| Complaint {
            file: file.to_owned(),
            line: at.map(line_at),
            key,
            what,
        };
        let (tables, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.has_gaps = true;
            let what = format!("{}; line ignored", error.message());
            self.complaints.push(complaint(error.span().map(|span| span.start), None, what));
        }
        for (section, keys) in tables.get_ref() {
            let name = section.get_ref();
            let known = KEYS.iter().any(|(known, ..)| known == name);
            let (Some(keys), true) = (keys.get_ref().as_table(), known) else {
                let what = if known {
                    self.has_gaps = true;
                    format!("must be a section: write [{name}], and its keys below; ignored")
                } else {
                    self.has_gaps = true;
                    format!("unknown section; the sections are {}", listing(KEYS.map(|(name, ..)| name)))
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
        let mut in_section = KEYS.iter().enumerate().filter(|(_, (name, ..))| *name == section);
        let Some((place, (_, _, set, _))) = in_section.clone().find(|(_, (_, name, ..))| *name == key) else {
            self.has_gaps = true;
            let names = listing(in_section.by_ref().map(|(_, (_, name, ..))| *name));
            return Err(format!("unknown key; the keys are {names}"));
        };
        match set(&mut self.config, value.get_ref()) {
            Ok(()) => {
                self.set.insert(place);
                Ok(())
            }
            Err(what) => {
                self.wrong.insert(place);
                Err(format!("must be {what}; ignored"))
            }
        }
    }

    /// Returns the settings. A key without a valid value keeps its previous one if it has a wrong value or there are
    /// [gaps](Self::has_gaps). Otherwise it has its default.
    fn finish(mut self, before: &Config) -> (Config, Vec<Complaint>) {
        for (place, (.., restore)) in KEYS.iter().enumerate() {
            if !self.set.contains(&place) && (self.has_gaps || self.wrong.contains(&place)) {
                restore(&mut self.config, before);
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

/// Converts a number whose range was checked.
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
mod tests;
