# rsyslog: a logger that may not write its files.
. "$PAYLOAD/guest/withhold.sh"
# Its alias starts the socket by which journald forwards.
systemctl -q enable rsyslog.service
logs() {
    local mark=$RANDOM$RANDOM
    logger "$mark" && within 3 grep -q "$mark" /var/log/syslog
}
withhold rsyslog.service logs ReadOnlyPaths ReadOnlyPaths=/var/log
finish
