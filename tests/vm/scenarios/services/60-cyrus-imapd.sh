# cyrus-imapd: a master that becomes another user and starts a server a connection.
. "$PAYLOAD/guest/heal.sh"
# What is in packages of its own is not here.
sed -i -E '/^[[:space:]]*(pop3|nntp|http|caldav)/d' /etc/cyrus.conf
works() { says "^a OK" port 143 "a CAPABILITY" "b LOGOUT"; }
heal cyrus-imapd.service works "SystemCallFilter=~@setuid" <<'CONF'
[Service]
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@setuid
CONF
finish
