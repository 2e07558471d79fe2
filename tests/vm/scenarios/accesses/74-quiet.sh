# Mail that is delivered, and a mailbox server.
. "$PAYLOAD/guest/quiet.sh"
. "$PAYLOAD/guest/mail.sh"
postfix=postfix.service
if systemctl cat postfix.service | grep -q '^ExecStart=/bin/true'; then postfix=postfix@-.service; fi
postconf -e inet_interfaces=loopback-only mydestination=localhost myhostname=harden.localdomain \
    "local_recipient_maps=" "maillog_file="
# At its start a script makes devices in its chroot.
TAP_FOR=60s quiet "$postfix" delivers PrivateDevices=no
sed -i -E '/^[[:space:]]*(pop3|nntp|http|caldav)/d' /etc/cyrus.conf
mailbox() { says "^a OK" port 143 "a CAPABILITY" "b LOGOUT"; }
TAP_FOR=60s quiet cyrus-imapd.service mailbox ProtectHome=yes
systemctl -q enable rsyslog.service
logs() {
    local mark=$RANDOM$RANDOM
    logger "$mark" && within 3 grep -q "$mark" /var/log/syslog
}
quiet rsyslog.service logs ProtectKernelLogs=no "CapabilityBoundingSet=CAP_SYSLOG" ProtectHome=yes
finish
