//! Files with right and wrong settings, and their order.

use super::*;
use std::fs;

fn read(text: &str) -> (Config, Vec<String>) {
    read_after(&Config::default(), text)
}

fn read_after(before: &Config, text: &str) -> (Config, Vec<String>) {
    let mut reader = ConfigReader::default();
    reader.read_file(Path::new("/etc/x.conf"), text);
    let (config, complaints) = reader.finish(before);
    (config, complaints.iter().map(ToString::to_string).collect())
}

fn load(root: &Path) -> (Config, Vec<Complaint>) {
    Config::load(root, &Config::default())
}

#[test]
fn wrong_setting_keeps_previous_value() {
    let (before, _) = read("[store]\nkeep-days = 7\n[alerts]\nburst = 3\nwindow-seconds = 60\nmute = [\"a\"]\n");
    let (config, complaints) = read_after(&before, "[store]\nkeep-days = 0\n[alerts]\nburst = 4\n");
    assert_eq!(complaints.len(), 1);
    let alerts = AlertLimits { burst: 4, ..AlertLimits::default() };
    assert_eq!(
        config,
        Config { max_age: before.max_age, alerts, ..Config::default() },
        "a removed setting has its default"
    );
    // A line that cannot be parsed may have set any key.
    let (config, complaints) = read_after(&before, "[alerts]\nburst = 4\n= 3\n");
    assert!(!complaints.is_empty());
    assert_eq!(config.max_age, before.max_age);
    assert_eq!((config.alerts.window, config.alerts.mute.len()), (before.alerts.window, 1));
    // One of two files sets the key to a wrong value.
    let mut reader = ConfigReader::default();
    reader.read_file(Path::new("/etc/a.conf"), "[alerts]\nburst = 5\n");
    reader.read_file(Path::new("/etc/b.conf"), "[alerts]\nburst = 0\n");
    assert_eq!(reader.finish(&before).0.alerts.burst, 5);
}

#[test]
fn every_key_can_be_set() {
    let (config, complaints) = read(
        "[store]\nkeep-days = 7\nmost-incidents = 1_000\n[memory]\nmost-incidents = 512\n\
         [alerts]\nagain-after-minutes = 5\nburst = 3\nwindow-seconds = 60\nmute = [\"a\", \"b@.socket\"]\n\
         [failed-calls]\nwatch = false\n",
    );
    assert_eq!(complaints, [""; 0]);
    let expected = Config {
        max_age: Duration::from_hours(7 * 24),
        max_stored: 1_000,
        max_in_memory: 512,
        alerts: AlertLimits {
            quiet: Duration::from_mins(5),
            burst: 3,
            window: Duration::from_mins(1),
            mute: ["a.service", "b@.socket"].map(str::to_owned).into(),
        },
        watches_calls: false,
    };
    assert_eq!(config, expected);
    let mutes = |name: &str| config.alerts.mutes(&name.parse().unwrap());
    assert!(mutes("a.service") && mutes("b@1.socket") && !mutes("a.socket") && !mutes("b.socket"));
}

#[test]
fn wrong_setting_is_reported_with_file_line_and_key() {
    let (config, complaints) = read(
        "# all wrong\n[store]\nkeep-days = 0\nmost-incidents = \"many\"\nfor = 1\n\n\
         [alerts]\nmute = [\"../x\"]\nburst = 4 4\nwindow-seconds = 30\n[\"\\u001b[2J\"]\nx = 1\n",
    );
    let last = AlertLimits { window: Duration::from_secs(30), ..AlertLimits::default() };
    assert_eq!(config, Config { alerts: last, ..Config::default() });
    let mut expected = [
        "/etc/x.conf:3: store.keep-days: must be a whole number from 1 to 36500; ignored",
        "/etc/x.conf:4: store.most-incidents: must be a whole number from 100 to 10000000; ignored",
        "/etc/x.conf:5: store.for: unknown key; the keys are keep-days, most-incidents",
        "/etc/x.conf:8: alerts.mute: must be a list of unit names such as [\"a.service\", \"b@.service\"]; \
         ignored",
        "/etc/x.conf:11: \\x1b[2J: unknown section; the sections are alerts, failed-calls, memory, store",
    ]
    .to_vec();
    let mut reported: Vec<&str> = complaints.iter().map(String::as_str).collect();
    reported.retain(|text| !text.starts_with("/etc/x.conf:9: "));
    assert!(complaints.len() > reported.len(), "the malformed line is reported, too: {complaints:#?}");
    reported.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reported, expected);
}

#[test]
fn key_in_place_of_section_is_reported() {
    let complaint = "must be a section: write [store], and its keys below; ignored";
    let reported = [format!("/etc/x.conf:1: store: {complaint}")];
    assert_eq!(read("store = 5\n"), (Config::default(), reported.to_vec()));
    assert_eq!(read("[[store]]\nkeep-days = 5\n").0, Config::default());
    assert!(read("[[store]]\nkeep-days = 5\n").1[0].ends_with(complaint));
}

#[test]
fn shipped_file_shows_every_default_and_sets_none() {
    let text = include_str!("../../../packaging/harden-why.conf");
    assert_eq!(read(text), (Config::default(), vec![]));
    let shown: String = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        .flat_map(|line| [line, "\n"])
        .collect();
    for (_, key, ..) in KEYS {
        assert!(shown.contains(&format!("{key} = ")), "{key} in {shown}");
    }
    assert_eq!(read(&shown), (Config::default(), vec![]));
}

#[test]
fn drop_ins_apply_in_order_of_names_and_etc_wins() {
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
    assert_eq!(load(root.path()).0.alerts.burst, 4, "the file in /etc replaces the one of the same name");
    fs::write(root.path().join("etc/harden-why/harden-why.conf"), [0xff]).unwrap();
    let (config, complaints) = load(root.path());
    assert_eq!((config.alerts.burst, complaints.len()), (4, 1), "{complaints:?}");
    assert!(complaints[0].to_string().ends_with("etc/harden-why/harden-why.conf: is not UTF-8"));
}

#[test]
fn directory_overrides_nothing_and_device_masks() {
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
    assert_eq!((burst, window), (2, 3), "directories override no file");
    for name in ["harden-why.conf", "harden-why.conf.d/x.conf"] {
        let path = etc.join(name).display().to_string();
        let complaint = format!("{path}: must be a file, but is a directory; ignored");
        assert!(complaints.contains(&complaint), "{complaint} is not in {complaints:?}");
        fs::remove_dir(etc.join(name)).unwrap();
        std::os::unix::fs::symlink("/dev/null", etc.join(name)).unwrap();
    }
    assert_eq!((complaints.len(), set()), (2, (20, 10, vec![])), "/dev/null masks");
}
