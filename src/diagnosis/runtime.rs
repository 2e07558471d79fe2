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
    /// LXC, LXD or Incus.
    Lxc,
    /// A container runtime that the label of the process does not name.
    Container,
}

/// The beginning of `AppArmor` profiles, and the program that loads such profiles.
const PROFILES: [(&str, Runtime); 13] = [
    ("docker-default", Runtime::Docker),
    ("snap.", Runtime::Snap),
    ("cri-containerd.", Runtime::Kubernetes),
    ("cri-containerd-", Runtime::Kubernetes),
    ("crio-default", Runtime::Kubernetes),
    ("containers-default-", Runtime::Podman),
    ("libpod-default-", Runtime::Podman),
    ("nerdctl-default", Runtime::Nerdctl),
    ("libvirt-", Runtime::Qemu),
    ("lxc-container-default", Runtime::Lxc),
    ("lxc-", Runtime::Lxc),
    ("lxd-", Runtime::Lxc),
    ("incus-", Runtime::Lxc),
];

/// The types of `SELinux` that a runtime gives to its processes, and the runtime.
const TYPES: [(&str, Runtime); 7] = [
    ("container_t", Runtime::Container),
    ("container_init_t", Runtime::Container),
    ("container_kvm_t", Runtime::Container),
    ("svirt_lxc_net_t", Runtime::Container),
    ("spc_t", Runtime::Container),
    ("svirt_t", Runtime::Qemu),
    ("svirt_tcg_t", Runtime::Qemu),
];

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

    /// Returns the program that gives its processes such a label: an `AppArmor` profile, alone, stacked or in a policy
    /// namespace (`apparmor_getprocattr`), or an `SELinux` context. A process cannot choose its label.
    #[must_use]
    pub(crate) fn from_label(label: &[u8]) -> Option<Self> {
        let label = str::from_utf8(label).ok()?.trim_end_matches('\0');
        if let Some(kind) = label.split(':').nth(2)
            && let Some((_, runtime)) = TYPES.iter().find(|(name, _)| *name == kind)
        {
            return Some(*runtime);
        }
        let mut profiles = label.split("//&").map(|profile| profile.trim_start_matches(':').trim_start_matches("//"));
        let of = |profile: &str| PROFILES.iter().find(|(start, _)| profile.starts_with(start)).map(|(_, found)| *found);
        profiles.find_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_identifies_runtime() {
        for (label, runtime) in [
            ("snap.skype.skype", Some(Runtime::Snap)),
            ("snap.lxd.daemon (enforce)", Some(Runtime::Snap)),
            ("docker-default (enforce)", Some(Runtime::Docker)),
            ("docker-default", Some(Runtime::Docker)),
            ("cri-containerd.apparmor.d (enforce)", Some(Runtime::Kubernetes)),
            ("containers-default-0.50.1", Some(Runtime::Podman)),
            ("lxd-web_</var/lib/lxd>//&:lxd-web_<var-lib-lxd>:unconfined", Some(Runtime::Lxc)),
            ("system_u:system_r:container_t:s0:c1,c2", Some(Runtime::Container)),
            ("system_u:system_r:svirt_t:s0:c1,c2", Some(Runtime::Qemu)),
            ("unconfined", None),
            ("system_u:system_r:httpd_t:s0", None),
            ("/usr/sbin/ntpd (enforce)", None),
            ("snapd", None),
        ] {
            assert_eq!(Runtime::from_label(label.as_bytes()), runtime, "{label}");
        }
    }

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
