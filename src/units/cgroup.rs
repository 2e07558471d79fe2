//! `/proc/PID/cgroup` to a unit.
