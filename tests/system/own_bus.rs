//! A bus for several users, with the policy that the package installs.

use crate::support::skip::skip;
use harden_why::outlet::bus::{BusServer, serve};
use harden_why::outlet::client::HardenWhyProxy;
use harden_why::outlet::client_requests;
use harden_why::outlet::client_requests::PendingRequest;
use harden_why::outlet::wire::Status;
use harden_why::systemd::bus_address::BusAddress;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// A bus for one test. Dropping it ends it.
pub(crate) struct OwnBus {
    daemon: Child,
    pub(crate) temp: tempfile::TempDir,
}

impl Drop for OwnBus {
    fn drop(&mut self) {
        _ = self.daemon.kill();
        _ = self.daemon.wait();
    }
}

impl OwnBus {
    /// Starts one that admits all users as the system bus does, with the project's own policy file.
    pub(crate) fn start() -> Option<Self> {
        Self::with_policy("")
    }

    /// Starts one with an additional line in its policy.
    pub(crate) fn with_policy(more: &str) -> Option<Self> {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/org.hardenwhy1.conf");
        let config = format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
                "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
            <busconfig>
              <listen>unix:path={}/bus</listen>
              <auth>EXTERNAL</auth>
              <policy context="default">
                <allow user="*"/>
                <deny own="*"/>
                <deny send_type="method_call"/>
                <allow send_type="signal"/>
                <allow send_requested_reply="true" send_type="method_return"/>
                <allow send_requested_reply="true" send_type="error"/>
                <allow receive_type="method_call"/>
                <allow receive_type="method_return"/>
                <allow receive_type="error"/>
                <allow receive_type="signal"/>
                <allow send_destination="org.freedesktop.DBus"/>
              </policy>
              <include>{}</include>
              <policy context="mandatory">{more}</policy>
            </busconfig>"#,
            temp.path().display(),
            policy.display()
        );
        let file = temp.path().join("bus.conf");
        std::fs::write(&file, config).unwrap();
        let daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .spawn();
        let able = daemon.is_ok() && nix::unistd::geteuid().is_root();
        let bus = daemon.ok().map(|daemon| Self { daemon, temp });
        let bus = if able { bus } else { None };
        if bus.is_none() {
            skip("a bus for several users needs root and dbus-daemon");
        }
        for _ in 0..500 {
            // The socket may exist before dbus-daemon listens on it.
            if bus.as_ref().is_none_or(|bus| UnixStream::connect(bus.temp.path().join("bus")).is_ok()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bus
    }

    pub(crate) fn address(&self) -> BusAddress {
        format!("unix:path={}/bus", self.temp.path().display()).parse().unwrap()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    pub(crate) async fn serve(&self) -> BusServer {
        self.serve_with_orders().await.0
    }

    /// The caller receives the requests.
    pub(crate) async fn serve_with_orders(&self) -> (BusServer, Receiver<PendingRequest>) {
        let (orders, ordered) = client_requests::channel();
        let status = || Status { listening: true, lost: 3, limitations: vec!["deaf".to_owned()], ..Status::default() };
        (serve(&self.address(), &self.state(), Arc::new(status), orders).await.unwrap(), ordered)
    }

    pub(crate) async fn client(&self) -> HardenWhyProxy<'static> {
        let connection = self.address().builder().build().await.unwrap();
        HardenWhyProxy::new(&connection).await.unwrap()
    }

    /// Calls a method as another user.
    pub(crate) async fn call_as(&self, uid: u32, groups: &str, method: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
        command.arg(if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={groups}") });
        command.args(["busctl", "--json=short", &format!("--address={}", self.address())]);
        command.args(["call", "org.hardenwhy1", "/org/hardenwhy1", "org.hardenwhy1.Manager", method]).args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub(crate) async fn list_as(
        &self,
        uid: u32,
        groups: &str,
        unit: &str,
        manager: &str,
    ) -> Result<Vec<String>, String> {
        let output = self.call_as(uid, groups, "ListIncidents", &["ssxuu", unit, manager, "0", "0", "100"]).await;
        if !output.status.success() {
            return Err(String::from_utf8(output.stderr).unwrap());
        }
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let incidents = answer["data"][0].as_array().unwrap();
        let manager = |incident: &serde_json::Value| incident["Manager"]["data"].as_str().unwrap_or("").to_owned();
        Ok(incidents.iter().map(manager).collect())
    }
}
