# rsyslog: a logger that may not write its files, and one without the kernel's messages.
. "$PAYLOAD/guest/withhold.sh"
# Its alias starts the socket by which journald forwards.
systemctl -q enable rsyslog.service
logs() {
    local mark=$RANDOM$RANDOM
    logger "$mark" && within 3 grep -q "$mark" /var/log/syslog
}
# The kernel logs what its sysrq keys are (Documentation/admin-guide/sysrq.rst).
logs_kernel() {
    : >/var/log/kern.log
    echo h >/proc/sysrq-trigger
    within 5 grep -q "sysrq: HELP" /var/log/kern.log
}
withhold rsyslog.service logs ReadOnlyPaths ReadOnlyPaths=/var/log
withhold rsyslog.service logs_kernel ProtectKernelLogs ProtectKernelLogs=yes
finish
