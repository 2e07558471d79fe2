//! `demo`: provokes a denial and shows every step from the kernel's record to the answer.
//!
//! If this process may open the audit socket, a child installs the filter of a unit file, as systemd would, and violates
//! it. Otherwise the demo explains a built-in case.

use super::explain;
use crate::audit::text::shown_path;
use crate::audit::{Action, parse_record};
use crate::cli::lookup::log_incidents::LogQuestion;
use crate::cli::lookup::scratch_dir::ScratchDir;
use crate::cli::lookup::source_lines::add_source_lines;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::views::answer::{Answer, Demo, Report};
use crate::diagnosis::diagnose;
use crate::host::log_host::LogHost;
use crate::host::log_machine::GroupChoice;
use crate::host::unit_settings;
use crate::incidents::IncidentChange;
use crate::incidents::local_time::LocalTime;
use crate::intake::netlink::{AuditMessage, AuditSocket, ReceiveError};
use crate::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use crate::outlet::client::announce_demonstration;
use crate::pipeline::Pipeline;
use crate::policy::{Effect, Policy, Settings, UnitFile, Verdict};
use crate::syscalls::{Abi, Groups};
use crate::systemd::bus_address::BusAddress;
use crate::systemd::syscall_groups;
use crate::systemd::syscall_groups::groups_note;
use crate::units::{Manager, Unit, UnitName};
use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The unit whose filter the child installs.
const UNIT: &str = "harden-why-demo.service";

/// The longest wait for the kernel's record; the record usually arrives within microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The built-in case.
const BUNDLED_UNIT: &str = "remote-ssh-agent.service";
const BUNDLED_LOG: &str = include_str!("../../../tests/data/remote-ssh-agent/log");
const BUNDLED_FILE: &str =
    include_str!("../../../tests/data/remote-ssh-agent/root/home/user/.config/systemd/user/remote-ssh-agent.service");

/// Runs the demo.
///
/// # Errors
/// The unit file cannot be written, or the child does not start.
pub(crate) async fn run(bus: &BusAddress, clock: &LocalTime) -> anyhow::Result<Report> {
    let loaded = syscall_groups::load();
    let root = ScratchDir::new()?;
    let mut report = match AuditSocket::open() {
        Ok(audit) => answer_live(bus, audit, &root.path, &loaded.groups, clock).await?,
        Err(why) => answer_bundled(&why.to_string(), &root.path, &loaded.groups)?,
    };
    // No manager of this machine has the unit, so there is nothing to run afterwards.
    report.units.iter_mut().for_each(|answer| answer.then.clear());
    report.notes.extend(groups_note(&loaded));
    Ok(report)
}

/// Answers for a denial that the child provokes now.
async fn answer_live(
    bus: &BusAddress,
    mut audit: AuditSocket,
    root: &Path,
    groups: &Groups,
    clock: &LocalTime,
) -> anyhow::Result<Report> {
    let me = std::env::current_exe().context("cannot find this program's own file")?;
    let text = format!(
        "[Service]\nExecStart={}\nSystemCallFilter=@system-service\nSystemCallFilter=~@network-io\n",
        me.display()
    );
    let unit = Unit { manager: Manager::System, name: UNIT.parse()? };
    let file = write_unit_file(root, "etc/systemd/system", UNIT, &text)?;
    let mut child = Command::new(&me).arg("demo-victim").arg(&file).stdin(Stdio::piped()).spawn()?;
    let pid = child.id();
    // Without a daemon there is no store for the denial.
    let _ = announce_demonstration(bus, pid).await;
    // The child waits for the end of its input.
    drop(child.stdin.take());
    let status = child.wait()?;

    let mut pipeline = Pipeline::new(LogHost::new(Some(root.to_owned()), Some(unit.name.clone())), 16);
    let deadline = Instant::now() + PATIENCE;
    while pipeline.fold.is_empty() {
        match audit.receive() {
            Ok(Some(AuditMessage::Seccomp(payload))) => {
                let record = parse_record(payload)?;
                if record.pid == pid {
                    let _ = pipeline.add_record(&record, None);
                }
            }
            Ok(Some(_)) | Err(ReceiveError::Overrun) => {}
            Ok(None) => {
                let left = deadline.saturating_duration_since(Instant::now());
                anyhow::ensure!(
                    !left.is_zero(),
                    "the child ended ({status}), but the kernel sent no record of it within {} s; 'harden-why \
                    status' shows possible reasons",
                    PATIENCE.as_secs()
                );
                poll(&mut [PollFd::new(audit.as_fd(), PollFlags::POLLIN)], PollTimeout::try_from(left)?)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let incidents =
        pipeline.fold.take_changes(usize::MAX).into_iter().map(|IncidentChange { incident, .. }| incident).collect();
    let known = unit_settings::from_files(root, &unit, None, groups);
    let diagnosis = diagnose(incidents, known.situation.as_ref(), groups);
    let mut answer = Answer::new(Some(&unit), &diagnosis, known.situation.as_ref(), groups, clock, known.notes);
    add_source_lines(&mut answer, &diagnosis, root);
    let words = format!(
        "Live: a child of this process (pid {pid}) installed the filter of {UNIT}, as systemd would, and called \
        socket(2). The kernel killed it and wrote a record. Nothing was installed or changed."
    );
    let demo = Some(Demo { source: "kernel", words, unit_file: text });
    Ok(Report { schema: SCHEMA, demo, units: vec![answer], log: None, notes: Vec::new() })
}

/// Answers for the built-in case, and states why the demo is not live.
fn answer_bundled(why: &str, root: &Path, groups: &Groups) -> anyhow::Result<Report> {
    write_unit_file(root, "home/user/.config/systemd/user", BUNDLED_UNIT, BUNDLED_FILE)?;
    let assumed = Some(BUNDLED_UNIT.parse()?);
    let question = LogQuestion { root: Some(root.to_owned()), assumed, ..LogQuestion::default() };
    let mut report = explain::explain(
        &mut BUNDLED_LOG.as_bytes(),
        &question,
        GroupChoice::Listed(groups.clone()),
        &explain::local_time_of_log(),
    )?;
    let words = if nix::unistd::geteuid().is_root() {
        format!("A recorded denial, since {why}.")
    } else {
        "A recorded denial: 'sudo harden-why demo' shows a live one.".to_owned()
    };
    report.demo = Some(Demo { source: "bundled", words, unit_file: BUNDLED_FILE.to_owned() });
    Ok(report)
}

/// Runs the child: installs the filter of a unit file and violates it. Returns only if the child survives.
pub(crate) fn run_demo_child(file: &Path) -> anyhow::Error {
    match violate(file) {
        Ok(()) => {
            anyhow::anyhow!("the filter of {} did not kill this process", shown_path(file))
        }
        Err(error) => error,
    }
}

fn violate(file: &Path) -> anyhow::Result<()> {
    let name: UnitName = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse()?;
    let settings = Settings::new(&name, Some(UnitFile::parse(file, &fs::read(file)?)), Vec::new());
    let groups = syscall_groups::load().groups;
    let filter = build_filter(&Policy::new(settings, &groups), &groups);
    // The client announces this process to the daemon first.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    // The kernel is to kill the child: a core file would be useless.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    filter.load(false).context("cannot load the filter")?;
    let _ = std::os::unix::net::UnixDatagram::unbound();
    Ok(())
}

/// Builds a policy's filter for the native ABI.
fn build_filter(policy: &Policy, groups: &Groups) -> SeccompFilter {
    let abi = Abi::native();
    let calls = groups.names().filter_map(|group| groups.calls(group)).flatten();
    let mut rules: Vec<(u32, u32)> = calls
        .filter_map(|call| {
            let number = abi.call_number(call)?;
            let answer = match policy.verdict(abi, call) {
                Verdict::Denied { effect: Effect::Errno(errno), .. } => {
                    return_value(Action::Errno, u16::try_from(errno).unwrap_or_default())
                }
                Verdict::Denied { effect: Effect::Kill, .. } => return_value(Action::KillProcess, 0),
                Verdict::Denied { effect: Effect::KillThread, .. } => return_value(Action::KillThread, 0),
                Verdict::Permitted | Verdict::LogOnly { .. } | Verdict::Possible { .. } => ALLOW,
            };
            Some((number, answer))
        })
        .collect();
    rules.sort_unstable();
    rules.dedup();
    SeccompFilter::new(abi.arch(), &rules, return_value(Action::KillProcess, 0))
}

/// Writes a unit file below a root. Returns its real path.
fn write_unit_file(root: &Path, dir: &str, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let dir = root.join(dir);
    fs::create_dir_all(&dir)?;
    let file = dir.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", shown_path(&file)))?;
    Ok(file)
}
