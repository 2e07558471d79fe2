//! Container runtimes and other programs that start a unit's processes, and give them filters of their own.

use crate::units::UnitName;

/// The program that starts a unit's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// A Kubernetes node's runtime: containerd or CRI-O.
    Kubernetes,
    /// nerdctl, on containerd.
    Nerdctl,
    /// systemd-nspawn.
    Nspawn,
    /// QEMU, started by libvirt.
    Qemu,
    /// A machine that is registered with systemd-machined, by nspawn, libvirt or another program.
    Machine,
    /// Flatpak.
    Flatpak,
    /// snapd.
    Snap,
}

/// The beginning and end of unit names, and the program that makes such units. The first match counts.
const NAMES: [(&str, &str, Runtime); 12] = [
    ("docker-", ".scope", Runtime::Docker),
    ("libpod-", ".scope", Runtime::Podman),
    ("cri-containerd-", ".scope", Runtime::Kubernetes),
    ("crio-", ".scope", Runtime::Kubernetes),
    ("nerdctl-", ".scope", Runtime::Nerdctl),
    ("systemd-nspawn@", ".service", Runtime::Nspawn),
    ("machine-qemu", ".scope", Runtime::Qemu),
    ("machine-", ".scope", Runtime::Machine),
    ("app-flatpak-", ".scope", Runtime::Flatpak),
    ("flatpak-", ".scope", Runtime::Flatpak),
    ("snap.", ".scope", Runtime::Snap),
    ("snap.", ".service", Runtime::Snap),
];

impl Runtime {
    /// Returns the program that makes units with such a name.
    #[must_use]
    pub fn from_unit_name(unit: &UnitName) -> Option<Self> {
        let name = unit.as_str();
        let fits = |(start, end, _): &&(&str, &str, Self)| name.starts_with(start) && name.ends_with(end);
        NAMES.iter().find(fits).map(|(_, _, runtime)| *runtime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_name_identifies_runtime() {
        for (name, runtime) in [
            ("docker-4f2c.scope", Some(Runtime::Docker)),
            ("docker.service", None),
            ("libpod-12ab.scope", Some(Runtime::Podman)),
            ("libpod-conmon-12ab.scope", Some(Runtime::Podman)),
            ("cri-containerd-ff.scope", Some(Runtime::Kubernetes)),
            ("crio-conmon-ff.scope", Some(Runtime::Kubernetes)),
            ("systemd-nspawn@web.service", Some(Runtime::Nspawn)),
            ("machine-web.scope", Some(Runtime::Machine)),
            ("machine-qemu\\x2d1\\x2dweb.scope", Some(Runtime::Qemu)),
            ("app-flatpak-org.gimp.GIMP-12.scope", Some(Runtime::Flatpak)),
            ("snap.lxd.daemon.service", Some(Runtime::Snap)),
            ("snapd.service", None),
            ("run-u12.scope", None),
        ] {
            assert_eq!(Runtime::from_unit_name(&name.parse().unwrap()), runtime, "{name}");
        }
    }
}
