# apache2: a shell script starts it, so the process that dies need not be apache2.
. "$PAYLOAD/guest/heal.sh"
heal apache2.service serves NoNewPrivileges=yes ProtectHome=yes ProtectHostname=yes ProtectKernelLogs=yes \
    ProtectKernelTunables=yes ProtectSystem=full "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK" \
    SystemCallFilter=@system-service "SystemCallFilter=~@chown @ipc"
finish
