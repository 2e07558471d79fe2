# cyrus-imapd: a master that changes its user and starts a server for each connection.
. "$PAYLOAD/guest/heal.sh"
# Parts in separate packages are not installed here.
sed -i -E '/^[[:space:]]*(pop3|nntp|http|caldav)/d' /etc/cyrus.conf
works() { says "^a OK" port 143 "a CAPABILITY" "b LOGOUT"; }
heal cyrus-imapd.service works ProtectClock=yes ProtectHome=yes ProtectHostname=yes ProtectKernelLogs=yes \
    ProtectKernelTunables=yes SystemCallFilter=@system-service "SystemCallFilter=~@setuid"
finish
