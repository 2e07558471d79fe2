# rsyslog: a logger that may not write its files, and one without the kernel's messages.
. "$PAYLOAD/guest/withhold.sh"
# Its alias starts the socket by which journald forwards.
systemctl -q enable rsyslog.service
logs() {
    local mark=$RANDOM$RANDOM
    logger "$mark" && within 3 grep -q "$mark" /var/log/syslog
}
# The kernel logs a program that reads where nothing is.
logs_kernel() {
    : >/var/log/kern.log
    perl -e 'unpack("p", pack("J", 1))' 2>/dev/null
    within 5 grep -q segfault /var/log/kern.log
}
withhold rsyslog.service logs ReadOnlyPaths ReadOnlyPaths=/var/log
withhold rsyslog.service logs_kernel ProtectKernelLogs ProtectKernelLogs=yes
finish
