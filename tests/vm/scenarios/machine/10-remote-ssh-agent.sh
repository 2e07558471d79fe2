# The guide's case: a lingering user's unit listens on a socket, and its filter lacks the socket calls.
. "$PAYLOAD/guest/lib.sh"

unit=remote-ssh-agent.service
file=/home/user/.config/systemd/user/$unit
socket=/run/user/1000/remote-ssh-agent.socket

loginctl enable-linger user
ok "the user has a manager" within 60 as user systemctl --user is-active basic.target
as user mkdir -p "$(dirname "$file")"
as user tee "$file" >/dev/null <<'UNIT'
[Unit]
Description=Reach the agent of another machine

[Service]
ExecStart=/usr/bin/ncat --listen --unixsock --keep-open %t/remote-ssh-agent.socket
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@network-io
# A killed process leaves its socket behind, which its successor cannot bind.
ExecStopPost=/bin/rm -f %t/remote-ssh-agent.socket
UNIT
as user systemctl --user daemon-reload
as user systemctl --user start $unit

is() { [[ $(as user systemctl --user show -P "$1" $unit) == "$2" ]]; }
ok "it dies of SIGSYS" within 20 is ExecMainStatus 31
ok "its alert is stored" within 20 exits 1 as user harden-why --exit-code $unit

the_answer='.units | length == 1 and .[0].unit == "remote-ssh-agent.service" and .[0].manager == "user:1000"
    and ([.[0].denials[].call] == ["socket"])
    and (.[0].denials[0] | .exe == "/usr/bin/ncat" and .action == "kill_process" and .attribution.confidence == "certain"
        and .cause.kind == "unit"
        and ([.cause.directives[] | {directive, file, line}]
            == [{directive: "SystemCallFilter", file: "'$file'", line: 8}]))
    and (.[0].remedies | length >= 2 and .[0].content == "[Service]\nSystemCallFilter=socket\n")
    and (.[0].remedies | all(.path == "'$file'.d/zz-harden-why.conf"))'
answer_of() { as "$1" harden-why --json $unit | tee /dev/stderr | jq -e "$the_answer" >/dev/null; }
ok "the user is told call, file, line and remedy" answer_of user
ok "so is root" answers "$the_answer" $unit
# Debian 13 closes home directories to other users, so they do not see the cause.
ok "a member of adm is told the call" says "socket\(2\) denied, process killed \(SIGSYS\)" as reader harden-why $unit
ok "another user is told nothing" exits 4 as other harden-why $unit
ok "the screen names the line" says "$file:8" as user harden-why $unit
ok "the journal has it under the unit" within 10 says "socket; .*see 'harden-why" \
    journalctl --no-pager -o cat --user-unit $unit MESSAGE_ID=08f099b23cdb4d1399f57dcd22ef4be3
ok "also for a member of adm" says "socket; .*see 'harden-why" as reader journalctl --no-pager -o cat --user-unit $unit

ok "root does not write into a home" exits 3 harden-why apply --yes $unit
ok "another user applies nothing" exits 3 as other harden-why apply --yes $unit
ok "nothing was written" not test -e $file.d

# It works when a client can connect and it is still running afterwards.
reached() {
    sleep 1
    echo hello | timeout 10 ncat -U $socket
    sleep 1
    is ActiveState active
}
rounds=0
until [[ $(as user systemctl --user show -P ActiveState $unit) == active ]] && reached >/dev/null 2>&1; do
    rounds=$((rounds + 1))
    # The restart can show the next denial, and then the exit status is 2.
    ok "apply, round $rounds" says '"outcome": ?"applied"' as user harden-why --json apply --yes --restart $unit || break
    ((rounds < 10)) || break
    within 5 is ActiveState active >/dev/null
done
denied=$(harden-why --json $unit | jq '[.units[].denials[].call] | unique | join(" ")' -r)
note "denied: $denied; rounds: $rounds"
ok "it runs after at most as many rounds as there are denied calls" \
    test "$rounds" -ge 1 -a "$rounds" -le "$(wc -w <<<"$denied")"
ok "the drop-in is the user's" test "$(stat -c %U $file.d/zz-harden-why.conf)" = user
ok "it is reached" reached
sleep 3
ok "it stays up" is ActiveState active
ok "and never died again" is NRestarts 0
fixed='[.units[].denials[].cause.kind] | all(startswith("fixed"))'
ok "the answer says that it is fixed" answers "$fixed" $unit
ok "and the user's says so" says "fixed|permit|now" as user harden-why $unit

ok "revert takes it back" as user harden-why revert $unit
as user systemctl --user restart $unit
ok "and it dies again" within 20 is ExecMainStatus 31
ok "the count goes up" within 20 answers '[.units[].denials[] | select(.call == "socket") | .count] | add >= 2' $unit
as user systemctl --user stop $unit
finish
