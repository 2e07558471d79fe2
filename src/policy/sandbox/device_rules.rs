//! Which devices a unit can use (`DevicePolicy=`, `DeviceAllow=`), as systemd's BPF program decides (`bpf-devices.c`).

use super::absolute_path::simplify;
use super::device_entry::parse_device_entry;
use super::implied_mounts::is_on;
use super::sandbox_settings::{SandboxSettings, SandboxWord};
use super::specifiers::SpecifierNames;
use super::withheld::{Withheld, withheld};
use crate::policy::directive::Directive;
use crate::policy::settings::Settings;

/// A device, and what is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceUse<'a> {
    /// The path of its node.
    pub path: &'a [u8],
    /// Whether it is a block device.
    pub is_block: bool,
    /// The number of its driver.
    pub major: u32,
    /// The letters of `DeviceAllow=`: `r`, `w` and `m`.
    pub wanted: &'a str,
}

/// Devices that every policy but `strict` allows.
const STANDARD: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];

/// Names of drivers with a number of their own (`Documentation/admin-guide/devices.txt`): block or not, number, a name as
/// in `/proc/devices`. Other drivers get their numbers as they load.
const DRIVERS: [(bool, u32, &str); 31] = [
    (false, 1, "mem"),
    (false, 4, "tty"),
    (false, 4, "ttyS"),
    (false, 4, "/dev/vc/0"),
    (false, 5, "/dev/tty"),
    (false, 5, "/dev/console"),
    (false, 5, "/dev/ptmx"),
    (false, 6, "lp"),
    (false, 7, "vcs"),
    (false, 10, "misc"),
    (false, 13, "input"),
    (false, 21, "sg"),
    (false, 29, "fb"),
    (false, 81, "video4linux"),
    (false, 89, "i2c"),
    (false, 108, "ppp"),
    (false, 116, "alsa"),
    (false, 128, "ptm"),
    (false, 136, "pts"),
    (false, 153, "spi"),
    (false, 166, "ttyACM"),
    (false, 188, "ttyUSB"),
    (false, 189, "usb_device"),
    (false, 195, "nvidia"),
    (false, 226, "drm"),
    (true, 7, "loop"),
    (true, 8, "sd"),
    (true, 9, "md"),
    (true, 11, "sr"),
    (true, 43, "nbd"),
    (true, 259, "blkext"),
];

/// The newest systemd on which `ProtectClock=` itself adds `char-rtc r` to `DeviceAllow=`, which refuses all other devices
/// (`unit_patch_contexts`, `unit.c`). Later ones add it where another line closes the list, as 251 does in its newer releases.
const CLOCK_CLOSES_UNTIL: u32 = 250;

/// Returns the words that refuse the use of a device.
pub(super) fn device_causes(
    settings: &Settings,
    sandbox: &SandboxSettings,
    systemd: Option<u32>,
    device: DeviceUse<'_>,
) -> Vec<(SandboxWord, Withheld)> {
    let entries = sandbox.entries(Directive::DeviceAllow);
    let own = sandbox.word(Directive::DevicePolicy).filter(|(policy, _)| *policy != "auto");
    let closing = own.map(|(_, word)| word.clone());
    let closing = closing.or_else(|| is_on(settings, Directive::PrivateDevices)).or_else(|| entries.first().cloned());
    let clock = is_on(settings, Directive::ProtectClock);
    let clock_closes = systemd.is_some_and(|systemd| systemd <= CLOCK_CLOSES_UNTIL);
    let closing = closing.or_else(|| clock.clone().filter(|_| clock_closes));
    let Some(closing) = closing else { return Vec::new() };
    let names = SpecifierNames::new(settings);
    let mut matching: Vec<(SandboxWord, String)> =
        entries.iter().filter_map(|entry| Some((entry.clone(), allowed_letters(entry, device, &names)?))).collect();
    // `ProtectClock=` implies `DeviceAllow=char-rtc r` in a list that is closed.
    let is_clock = !device.is_block && device.path.starts_with(b"/dev/rtc");
    matching.extend(clock.filter(|_| is_clock).map(|word| (word, "r".to_owned())));
    let is_standard =
        STANDARD.iter().any(|path| path.as_bytes() == device.path) || (!device.is_block && device.major == 136);
    let is_strict = own.is_some_and(|(policy, _)| policy == "strict");
    // The kernel asks for all letters at once, so one entry has to have them all.
    let has_all =
        |letters: &String| device.wanted.chars().filter(|letter| "rwm".contains(*letter)).all(|c| letters.contains(c));
    if (is_standard && !is_strict) || matching.iter().any(|(_, letters)| has_all(letters)) {
        return Vec::new();
    }
    match matching.last() {
        Some((word, letters)) => {
            vec![(word.clone(), withheld("", &format!(": the unit may only {}", describe(letters))))]
        }
        None => vec![(closing, withheld("the unit has no access to ", ""))],
    }
}

fn describe(letters: &str) -> String {
    let verbs = [('r', "read"), ('w', "write"), ('m', "make")];
    let verbs: Vec<&str> =
        verbs.into_iter().filter(|(letter, _)| letters.contains(*letter)).map(|(_, verb)| verb).collect();
    verbs.join(" and ")
}

/// Returns the letters of an entry of `DeviceAllow=` if it is about a device.
fn allowed_letters(entry: &SandboxWord, device: DeviceUse<'_>, names: &SpecifierNames<'_>) -> Option<String> {
    let parsed = parse_device_entry(&entry.text, names)?;
    let spec = parsed.device?;
    let kind = if device.is_block { "block-" } else { "char-" };
    let is_match = match spec.strip_prefix(kind) {
        Some(pattern) => matches_driver(pattern, device),
        None => simplify(&spec).is_some_and(|path| path.as_bytes() == device.path),
    };
    is_match.then(|| parsed.letters.to_owned())
}

/// Whether a driver's name, which can contain `*` and `?`, can be that of a device: a driver without a number of its own
/// can have any name.
fn matches_driver(pattern: &str, device: DeviceUse<'_>) -> bool {
    let number = if (136..=143).contains(&device.major) { 136 } else { device.major };
    let mut known = DRIVERS.iter().filter(|(is_block, major, _)| *is_block == device.is_block && *major == number);
    match pattern.parse::<u32>() {
        Ok(major) => major == device.major,
        Err(_) => known.clone().next().is_none() || known.any(|(.., name)| matches_glob(pattern, name)),
    }
}

/// Whether a name matches a pattern with `*` and `?`. A user may have written the pattern, so this takes at most as many
/// steps as the product of both lengths.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Where the last `*` is, and how much of the name it covers so far.
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, read));
                at += 1;
            }
            (Some(c), _) if *c == '?' || Some(c) == name.get(read) => {
                at += 1;
                read += 1;
            }
            (_, Some((before, covered))) => {
                star = Some((before, covered + 1));
                at = before + 1;
                read = covered + 1;
            }
            (_, None) => return false,
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_of_many_stars_is_compared_at_once() {
        assert!(!matches_glob(&format!("{}x", "*".repeat(1 << 20)), "mem"));
        assert!(matches_glob(&"*".repeat(1 << 20), "mem"));
        for (pattern, name, is_match) in [
            ("*", "", true),
            ("?", "", false),
            ("t*S", "ttyS", true),
            ("t*y", "ttyS", false),
            ("a*b*c", "aXbYbc", true),
        ] {
            assert_eq!(matches_glob(pattern, name), is_match, "{pattern} {name}");
        }
    }
}
