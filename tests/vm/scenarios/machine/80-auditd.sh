# With auditd the kernel has a second listener, and both receive records.
. "$PAYLOAD/guest/lib.sh"

ok "there is no auditd at first" not dpkg -s auditd
victim alone
victim both
victim rule
systemctl daemon-reload
systemctl start alone.service
ok "a denial without it" within 20 denied alone

ok "it is installed" apt-get -q -y install "$PAYLOAD_DEBS"/auditd/*.deb
ok "and runs" within 30 systemctl is-active auditd
systemctl start both.service
ok "the daemon hears" within 20 denied both
ok "and auditd" within 20 grep -q 'type=SECCOMP.*syscall=163' /var/log/audit/audit.log
ok "explain reads its log to the same end" says "acct.2. denied" harden-why explain --root / /var/log/audit/audit.log

# auditd has loaded a rule that excludes all such records.
auditctl -a always,exclude -F msgtype=SECCOMP >/dev/null
systemctl start rule.service
ok "a death without a record is told as one" within 30 answers '.units[0].denials[0].event == "unrecorded-death"' rule.service
auditctl -D >/dev/null
systemctl stop auditd
systemctl start alone.service
ok "with auditd stopped the daemon goes on" within 20 denied alone 2
finish
