# rsyslog: a logger that may not write its files, and one without the kernel's messages.
. "$PAYLOAD/guest/withhold.sh"
# Its alias starts the socket by which journald forwards.
systemctl -q enable rsyslog.service
logs() {
    local mark=$RANDOM$RANDOM
    logger "$mark" && within 3 grep -q "$mark" /var/log/syslog
}
(umask 077 && head -c 1M /dev/zero >/var/tmp/swap && mkswap /var/tmp/swap >/dev/null)
# The kernel logs that it swaps.
logs_kernel() {
    : >/var/log/kern.log
    swapon /var/tmp/swap && swapoff /var/tmp/swap
    within 5 grep -q "Adding .* swap on" /var/log/kern.log
}
withhold rsyslog.service logs ReadOnlyPaths ReadOnlyPaths=/var/log
withhold rsyslog.service logs_kernel ProtectKernelLogs ProtectKernelLogs=yes
finish
