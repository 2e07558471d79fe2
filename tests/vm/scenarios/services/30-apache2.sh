# apache2: started by a shell script, so the one that dies need not be apache2.
. "$PAYLOAD/guest/heal.sh"
works() { says "^HTTP/1.1 200" port 80 "GET / HTTP/1.0" "Host: localhost" ""; }
heal apache2.service works "SystemCallFilter=~@chown @ipc" <<'CONF'
[Service]
NoNewPrivileges=yes
PrivateDevices=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=full
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@chown @ipc
CONF
finish
