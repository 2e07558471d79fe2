# cyrus-imapd: a master that becomes another user and starts a server a connection.
. "$PAYLOAD/guest/heal.sh"
# What is in packages of its own is not here.
sed -i -E '/^[[:space:]]*(pop3|nntp|http|caldav)/d' /etc/cyrus.conf
works() { says "^a OK" port 143 "a CAPABILITY" "b LOGOUT"; }
heal cyrus-imapd.service works ProtectClock=yes ProtectHome=yes ProtectHostname=yes ProtectKernelLogs=yes \
    ProtectKernelTunables=yes SystemCallFilter=@system-service "SystemCallFilter=~@setuid"
finish
