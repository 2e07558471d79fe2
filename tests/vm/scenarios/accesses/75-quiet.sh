# Logins by ssh, a job of cron, transfers by vsftpd, and a compiler.
. "$PAYLOAD/guest/quiet.sh"
. "$PAYLOAD/guest/login.sh"
works() { login true; }
TAP_FOR=40s quiet ssh.service works

postconf -e inet_interfaces=loopback-only mydestination=localhost myhostname=harden.localdomain \
    "local_recipient_maps=" "maillog_file="
printf '@reboot user echo hello >/home/user/cron\n' >/etc/cron.d/hello
job='ExecStartPre=/bin/sh -c "rm -f /run/crond.reboot; touch /run/cron-started"'
runs_job() { [[ /home/user/cron -nt /run/cron-started ]]; }
quiet cron.service runs_job "$job"

installed vsftpd
sed -i 's/^anonymous_enable=.*/anonymous_enable=YES/' /etc/vsftpd.conf
transfers() { says "^230 " port 21 "USER anonymous" "PASS x" QUIT; }
# It isolates its sessions in namespaces.
quiet vsftpd.service transfers ProtectHome=yes CapabilityBoundingSet=CAP_SYS_ADMIN

unit compiler.service <<'UNIT'
[Service]
User=user
RuntimeDirectory=compiler
WorkingDirectory=/run/compiler
ExecStart=/bin/sh -c 'echo "int main(void) { return 0; }" >x.c; while gcc -O2 -o x x.c && ./x; do touch done; sleep 1; done'
UNIT
compiles() { [[ -e /run/compiler/done ]] && rm /run/compiler/done; }
TAP_FOR=60s quiet compiler.service compiles ProtectHome=yes NoNewPrivileges=yes MemoryDenyWriteExecute=yes
rm /etc/systemd/system/compiler.service
finish
