# postfix: a master with a dozen programs; a mail to a local user needs most of them. The process that dies is
# not the one that systemd started, and the unit stays active.
. "$PAYLOAD/guest/heal.sh"
# Debian 12 runs the main instance in a unit of its own, and its programs in a chroot.
unit=postfix.service
if systemctl cat postfix.service | grep -q '^ExecStart=/bin/true'; then unit=postfix@-.service; fi
postconf -e inet_interfaces=loopback-only mydestination=localhost myhostname=harden.localdomain \
    "local_recipient_maps=" "maillog_file=" minimal_backoff_time=2s queue_run_delay=2s
. "$PAYLOAD/guest/mail.sh"
heal "$unit" delivers ProtectClock=yes ProtectHostname=yes ProtectKernelLogs=yes ProtectKernelTunables=yes \
    MemoryDenyWriteExecute=yes "SystemCallFilter=@system-service chroot" "SystemCallFilter=~@sync"
finish
