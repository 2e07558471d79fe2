# cron: its mail needs the set-gid program of postfix.
. "$PAYLOAD/guest/withhold.sh"
postfix=postfix.service
if systemctl cat postfix.service | grep -q '^ExecStart=/bin/true'; then postfix=postfix@-.service; fi
postconf -e inet_interfaces=loopback-only mydestination=localhost myhostname=harden.localdomain \
    "local_recipient_maps=" "maillog_file="
systemctl start "$postfix"
printf 'MAILTO=user@localhost\n@reboot user echo hello\n' >/etc/cron.d/hello
# Each start of cron is the machine's first.
mails() { [[ /var/mail/user -nt /run/cron-started ]]; }
job='ExecStartPre=/bin/sh -c "rm -f /run/crond.reboot; touch /run/cron-started"'
echo "[Service]
$job" | unit cron.service.d/10-job.conf
systemctl daemon-reload
withhold cron.service mails NoNewPrivileges "$job" NoNewPrivileges=yes
systemctl stop "$postfix"
rm /etc/cron.d/hello
finish
