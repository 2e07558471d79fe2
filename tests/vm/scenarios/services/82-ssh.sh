# ssh: PAM moves each login into a scope of logind. The calls of a login during a rehearsal belong to ssh.service.
. "$PAYLOAD/guest/tighten.sh"
. "$PAYLOAD/guest/login.sh"
unit ssh.service.d/50-hardening.conf <<'CONF'
[Service]
SystemCallFilter=~uname sched_getaffinity
SystemCallErrorNumber=EPERM
CONF
systemctl daemon-reload
systemctl start ssh.service
ok "a login works" within 60 login true
ok "PAM moves it into a scope of logind" says '/session-[0-9a-z]+\.scope$' login cat /proc/self/cgroup
ok "the service's filter is in force there" not login uname

said=$(mktemp)
harden-why --json rehearse ssh.service --yes --for 180s --apply >"$said" &
rehearsal=$!
ok "ssh is rehearsed" within 60 says "[a-z]{4}" systemctl show -P SystemCallLog ssh.service
ok "a login works in the rehearsal" within 30 login true
ok "it makes the denied calls in a scope of logind" says '/session-[0-9a-z]+\.scope$' login 'cat /proc/self/cgroup; nproc; uname'
ok "which the rehearsal lets pass" says Linux login uname
longest=600 login 'while :; do uname; sleep 1; done' >/dev/null &
lasting=$!
wait "$rehearsal"
ok "the calls of the logins are found" jq -e '[.rehearsal.calls[].call] | contains(["sched_getaffinity", "uname"])' "$said"
ok "as denials of ssh.service" jq -e 'any(.units[]; .unit == "ssh.service" and ([.denials[].call] | contains(["uname"])))' "$said"
ok "the login that goes on is named" jq -e '.rehearsal.survivors | any(.command | test("uname|sshd"))' "$said"
sleep 5
ok "no alert is of an unknown unit" not says "unknown unit" journalctl --no-pager -o cat -t harden-whyd
ok "none is of a login" not says uname journalctl --no-pager -o cat -t harden-whyd -g uname
ok "no denial is stored for another unit, or for none" answers '[.overview[].unit | select(. != "ssh.service")] == []'
ok "systemd holds the remedy" jq -e '.applied.outcome == "applied" and .applied.confirmed' "$said"
ok "a new login works under it, with its calls" within 60 says Linux login uname
jq -r '.rehearsal.survivors[].pid' "$said" | xargs -r kill 2>/dev/null
wait "$lasting" 2>/dev/null
systemctl stop ssh.service
rm "$said"
finish
