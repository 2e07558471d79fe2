# nginx: what hardening guides say for a web server, though its master process drops privileges by itself.
. "$PAYLOAD/guest/heal.sh"
works() { says "^HTTP/1.1 200" port 80 "GET / HTTP/1.0" "Host: localhost" ""; }
heal nginx.service works "SystemCallFilter=~@privileged @resources" <<'CONF'
[Service]
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=full
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
CONF
finish
