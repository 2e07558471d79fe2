# exim4, which replaces postfix: it changes its user for each delivery.
. "$PAYLOAD/guest/heal.sh"
ok "exim4 is installed" apt-get -q -y install "$PAYLOAD_DEBS"/exim4-daemon-light/*.deb
. "$PAYLOAD/guest/mail.sh"
heal exim4.service delivers ProtectClock=yes ProtectHostname=yes ProtectKernelLogs=yes ProtectKernelTunables=yes \
    SystemCallFilter=@system-service "SystemCallFilter=~@setuid"
finish
