# Calls refused with an error by units of PID 1 and of a user's manager are recorded while logging is on, and only then.
. "$PAYLOAD/guest/lib.sh"

# quiet FILE: a unit whose call is refused and that runs on.
quiet() {
    cat >"$1" <<UNIT
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStartPre=/usr/bin/perl -e "exit(syscall(163, 0) == -1 ? 0 : 1)"
ExecStart=/bin/sleep 10000
SystemCallFilter=~acct
SystemCallErrorNumber=EPERM
UNIT
}
quiet /etc/systemd/system/quiet.service
unit finished.service <<UNIT
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
LockPersonality=yes
UNIT
systemctl daemon-reload
systemctl start finished.service
denied() {
    answers ".units[0].denials | length == 1 and .[0].call == \"acct\" and .[0].count == $1" --system quiet
}
on() { [[ $(harden-why --json status | jq -r '.recording[] | select(.manager == "system") | .on') == "$1" ]]; }
nothing_left() { [[ -z $(find /run/systemd /etc/systemd -name '*harden-why-log-refusals*' ! -path '*/units/*') ]]; }

ok "the unit is refused its call" systemctl start quiet.service
ok "and nothing is known of that" exits 0 harden-why --exit-code quiet
ok "which the answer says, with what to do" says "harden-why log-refusals quiet.service" harden-why quiet
listed() { [[ $(harden-why --json | jq '.silent | any(.unit == "quiet.service")') == true ]]; }
ok "and the overview" says "Units whose refusals leave no record" harden-why --all
ok "which has it" listed
seconds() { TIMEFORMAT=%R; time harden-why >/dev/null; }
note "the overview took $(seconds 2>&1) s for $(systemctl list-units --all --no-legend -t service,socket,mount,swap | wc -l) units"

ok "it is off" on false
ok "the unit is restarted" says "quiet.service +restarted: active" harden-why log-refusals --yes quiet
ok "what did its work is left alone" says "finished.service +not restarted .it has finished" \
    harden-why log-refusals --yes finished
ok "it is on" on true
ok "the call is recorded" within 20 denied 1
ok "systemd has the timer" says "harden-why-log-refusals[a-z-]*.timer" systemctl list-timers
systemctl daemon-reexec
systemctl restart quiet.service
ok "executed anew, it still is" within 20 denied 2
ok "ended" says "^Ended for the system manager" harden-why log-refusals --off
ok "it is off again" on false
systemctl restart quiet.service
sleep 2
ok "and the call is not recorded" denied 2
ok "nothing is left" nothing_left

ok "for some seconds" harden-why log-refusals --yes --for 5s quiet
ok "the call is recorded once more" within 20 denied 3
ok "until it ends by itself" within 60 nothing_left
systemctl restart quiet.service
sleep 2
ok "for good" denied 3

# A user's manager, without root.
useradd -m -s /bin/bash logger
mkdir -p /home/logger/.config/systemd/user
quiet /home/logger/.config/systemd/user/quiet.service
chown -R logger: /home/logger/.config
loginctl enable-linger logger
ok "the user's manager is up" within 30 as logger systemctl --user is-active basic.target
ok "the user logs the refusals of a unit" says "quiet.service +does not run" as logger harden-why log-refusals --yes quiet
ok "and starts it" as logger systemctl --user start quiet.service
theirs() { as logger harden-why --json --user quiet | jq -e '.units[0].denials[0].count == '"$1" >/dev/null; }
ok "its call is recorded" within 20 theirs 1
ok "the home holds nothing of it" [ ! -e /home/logger/.config/systemd/user.conf.d ]
ok "it ends" says "^Ended for the user manager" as logger harden-why log-refusals --off
as logger systemctl --user restart quiet.service
sleep 2
ok "and the call is not recorded any more" theirs 1
ok "nothing is left there" [ ! -e "/run/user/$(id -u logger)/harden-why" ]
finish
