# rsyslog: a logger that may not write its files, and one without the kernel's messages.
. "$PAYLOAD/guest/withhold.sh"
# Its alias starts the socket by which journald forwards.
systemctl -q enable rsyslog.service
logs() {
    local mark=$RANDOM$RANDOM
    logger "$mark" && within 3 grep -q "$mark" /var/log/syslog
}
# Without auditd, the kernel logs its audit records: here of a program that a filter kills.
logs_kernel() {
    : >/var/log/kern.log
    systemd-run --quiet --wait -p SystemCallFilter=~uname uname 2>/dev/null
    within 5 grep -q "type=1326" /var/log/kern.log
}
withhold rsyslog.service logs ReadOnlyPaths ReadOnlyPaths=/var/log
withhold rsyslog.service logs_kernel ProtectKernelLogs ProtectKernelLogs=yes
finish
