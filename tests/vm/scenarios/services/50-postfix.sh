# postfix: a master with a dozen programs behind it, of which a mail to a local user needs most.
. "$PAYLOAD/guest/heal.sh"
# Debian 13 has the instance's unit of that name alone.
unit=postfix@-.service
systemctl cat $unit >/dev/null 2>&1 || unit=postfix.service
postconf -e inet_interfaces=loopback-only mydestination=localhost myhostname=harden.localdomain \
    "local_recipient_maps=" "maillog_file=" minimal_backoff_time=2s queue_run_delay=2s
. "$PAYLOAD/guest/mail.sh"
heal "$unit" delivers "SystemCallFilter=~@chown" <<'CONF'
[Service]
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service chroot
SystemCallFilter=~@chown
CONF
finish
