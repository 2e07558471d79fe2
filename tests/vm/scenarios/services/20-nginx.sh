# nginx: the usual lines for a web server, though its master process drops privileges itself.
. "$PAYLOAD/guest/heal.sh"
heal nginx.service serves NoNewPrivileges=yes PrivateTmp=yes ProtectHome=yes ProtectKernelTunables=yes \
    ProtectSystem=full "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK" RestrictSUIDSGID=yes \
    MemoryDenyWriteExecute=yes SystemCallFilter=@system-service "SystemCallFilter=~@privileged @resources"
finish
