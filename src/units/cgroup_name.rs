//! Names of cgroups: how systemd writes the name of a unit as one level of a path, and reads it back
//! (`src/basic/cgroup-util.c`).

/// The controllers that systemd knows, whether or not the kernel has them (`cgroup_controller_table` of systemd 252;
/// systemd 258 no longer knows `cpuacct` and `blkio`). The kernel's further controllers, such as `hugetlb`, are none.
const CONTROLLERS: [&str; 13] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "io",
    "blkio",
    "memory",
    "devices",
    "pids",
    "bpf-firewall",
    "bpf-devices",
    "bpf-foreign",
    "bpf-socket-bind",
    "bpf-restrict-network-interfaces",
];

/// Returns a unit's name as its cgroup has it, with `_` before a name that could be one of the kernel's files
/// (`cg_escape`). The names without a dot for which systemd does so as well are no units.
#[must_use]
pub(crate) fn escape_unit_name(name: &str) -> String {
    let start = name.split('.').next().unwrap_or_default();
    let is_file = start == "cgroup" || CONTROLLERS.contains(&start);
    if is_file || name.starts_with(['_', '.']) { format!("_{name}") } else { name.to_owned() }
}

/// Returns the name of the unit of a cgroup (`cg_unescape`).
pub(crate) fn unescape_unit_name(level: &[u8]) -> &[u8] {
    level.strip_prefix(b"_").unwrap_or(level)
}

/// Returns the path of a slice below the root slice: `a-b.slice` is in `a.slice` (`cg_slice_to_path`).
#[must_use]
pub(crate) fn slice_path(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    let names = ends.filter_map(|end| stem.get(..end)).filter(|name| !name.is_empty() && *name != "-");
    names.flat_map(|name| ["/".to_owned(), escape_unit_name(&format!("{name}.slice"))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_kernel_file_is_escaped_and_read_back() {
        for (name, cgroup) in [
            ("cgroup.service", "_cgroup.service"),
            ("memory.slice", "_memory.slice"),
            ("cpuacct.service", "_cpuacct.service"),
            ("bpf-firewall.service", "_bpf-firewall.service"),
            ("_a.service", "__a.service"),
            ("nginx.service", "nginx.service"),
            ("memory-a.slice", "memory-a.slice"),
            ("memory@a.service", "memory@a.service"),
            ("hugetlb.service", "hugetlb.service"),
            ("tasks.service", "tasks.service"),
        ] {
            assert_eq!(escape_unit_name(name), cgroup);
            assert_eq!(unescape_unit_name(cgroup.as_bytes()), name.as_bytes());
        }
    }

    #[test]
    fn slice_is_below_the_slices_that_its_name_extends() {
        for (slice, path) in [
            ("system.slice", "/system.slice"),
            ("system-getty-x.slice", "/system.slice/system-getty.slice/system-getty-x.slice"),
            ("memory-io.slice", "/_memory.slice/memory-io.slice"),
            ("-.slice", ""),
        ] {
            assert_eq!(slice_path(slice), path);
        }
    }
}
