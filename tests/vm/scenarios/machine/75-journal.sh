# A daemon that starts late finds processes that systemd no longer remembers: only the journal says whose they were.
. "$PAYLOAD/guest/lib.sh"

# The socket holds the records until the daemon takes it. The first record makes systemd start the daemon.
late=/run/systemd/system/harden-whyd.service.d/late.conf
mkdir -p "${late%/*}"
printf '[Service]\nExecStartPre=+/bin/sh -c "while test -e %s; do sleep 0.1; done"\n' "$late" >"$late"
systemctl daemon-reload
systemctl stop harden-whyd.service

# found NAME RUNG COUNT: the denials are attributed to this unit, by that evidence.
found() {
    answers '.units | length == 1 and (.[0].denials | length == 1 and (.[0] | .call == "acct" and .count == '"$3"'
        and .attribution.evidence == "'"$2"'"))' --system "$1.service"
}

# A child that systemd never knew, of a shell that has ended. systemd-coredump takes its core.
unit dumped.service <<UNIT
[Service]
ExecStart=/bin/sh -c '/usr/bin/perl -e "syscall 163, 0"; true'
SystemCallFilter=~acct
UNIT
systemctl daemon-reload
# dumps [FILTER]: the number of entries of such cores.
dumps() {
    journalctl --no-pager -o json MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1 |
        jq -s 'map(select((.COREDUMP_CGROUP == "/system.slice/dumped.service") and ('"${1:-true}"'))) | length'
}
# journald looks up the sender's unit as it takes the message. A sender that has ended has none, and is not trusted.
believed() { dumps '._SYSTEMD_UNIT // "" | startswith("systemd-coredump@")'; }
over() { [[ $(systemctl show -P ActiveState "$1") == "${2:-inactive}" ]]; }
started=0
told() { (($(dumps) == started)); }
while ((started < 5 && $(believed) == 0)); do
    started=$((started + 1))
    systemctl start dumped.service
    ok "systemd-coredump told the journal" within 30 told
    ok "the unit is over" within 20 over dumped.service
done
note "of $started entries journald knew the sender of $(believed)"

# A main process that was killed before the one that systemd remembers, without a core.
sysctl -q kernel.core_pattern=core
unit again.service <<UNIT
[Service]
ExecStart=/usr/bin/perl -e "sleep 1000 if -e '/run/again'; open F, '>/run/again'; syscall 163, 0"
SystemCallFilter=~acct
Restart=on-failure
LimitCORE=0
UNIT
systemctl daemon-reload
systemctl start again.service
restarted() { [[ $(systemctl show -P NRestarts,SubState again.service | sort | tr '\n' ' ') == '1 running ' ]]; }
ok "another main process runs" within 20 restarted

ok "the daemon has been waiting to start" over harden-whyd.service activating
rm "$late"
ok "what dumped core is told by systemd-coredump's entry" within 30 found dumped journal-entry "$(believed)"
ok "what was killed before is told by PID 1's" within 30 found again exit-entry 1
ok "and as the guess that it is" says "a guess" harden-why again.service
resident() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$(systemctl show -P MainPID harden-whyd)/status"; }
small() { (($(resident) <= 16384)); }
# To load its programs into the kernel, it needs more for a moment.
ok "its programs are loaded" within 60 says '"watches_calls": ?true' harden-why --json status
note "it has $(resident) KiB resident, with the library that reads the journal"
ok "it is small still" small
unknown() { (($(harden-why --json --unknown | jq '[.units[].denials[].count] | add // 0') == $1)); }
ok "as unknown is left what nobody can be believed of" unknown $((started - $(believed)))
systemctl stop again.service
sysctl -q --system
systemctl daemon-reload
ok "cores are taken again" says systemd-coredump sysctl kernel.core_pattern
finish
