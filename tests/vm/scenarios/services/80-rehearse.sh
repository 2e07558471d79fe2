# Services whose filter refuses with an error, without a record: one rehearsal finds every missing call.
. "$PAYLOAD/guest/heal.sh"
afresh nginx.service redis-server.service

# perform UNIT WORKS < DROP-IN: WORKS is a function that succeeds while the service works, and gives it work.
perform() {
    local unit=$1 works=$2 said work calls
    said=$(mktemp)
    systemctl start "$unit"
    ok "$unit works without hardening" within 20 "$works"
    systemctl stop "$unit"
    unit "$unit.d/50-hardening.conf"
    systemctl daemon-reload
    timeout 60 systemctl restart "$unit" 2>/dev/null
    ok "$unit is too tight to work" not up "$unit" "$works"
    ok "and the kernel tells nothing of it" exits 0 harden-why --exit-code "$unit"

    while sleep 1; do "$works"; done >/dev/null 2>&1 &
    work=$!
    ok "$unit is rehearsed, and the remedy applied" timeout 400 \
        sh -c 'harden-why --json rehearse "$0" --yes --until-idle=20s --for 200s --apply >"$1"' "$unit" "$said"
    kill "$work"
    wait "$work" 2>/dev/null
    calls=$(jq -r '[.rehearsal.calls[].call] | join(" ")' "$said")
    note "$unit: $(jq -r '"\(.rehearsal.seconds) s, \(.rehearsal.ended)"' "$said"): $calls"
    ok "what it called is told by its name" test -n "$calls"
    ok "systemd holds the remedy" jq -e '.applied.outcome == "applied" and .applied.confirmed' "$said"
    # The C library makes an older call for clone3, which RestrictNamespaces= answers with ENOSYS.
    ok "each call that was denied is the filter's" jq -e '[.units[0].denials[] | select(.cause.kind == "unit")
        | select(.call != "clone3" or .errno != "ENOSYS")] | any(.source == "rehearsal") as $rehearsed
        | map(select(.cause.directives[0].directive != "SystemCallFilter"))
        | if . == [] then $rehearsed else (., false) end' "$said"
    ok "$unit works after one rehearsal" within 30 "$works"
    ok "and is active" systemctl is-active "$unit"
    ok "under its own filter" says "[a-z]{4} [a-z]{4}" systemctl show -P SystemCallFilter "$unit"
    ok "nothing is left below /run" not ls "/run/systemd/system/$unit.d"
    rm "$said"
}

# killed UNIT: the start of the daemon cleans up what is left.
killed() {
    local unit=$1 client
    systemctl start "$unit"
    harden-why rehearse "$unit" --yes >/dev/null 2>&1 &
    client=$!
    ok "$unit is rehearsed" within 30 says "[a-z]{4}" systemctl show -P SystemCallLog "$unit"
    sleep 2
    kill -KILL "$client"
    wait "$client" 2>/dev/null
    ok "its client leaves a drop-in when it is killed" ls "/run/systemd/system/$unit.d/zzzz-harden-why-rehearsal.conf"
    systemctl restart harden-whyd.service
    ok "the daemon's start takes it away" not ls "/run/systemd/system/$unit.d"
    ok "says so" says "left $unit less protected" journalctl --no-pager -o cat -u harden-whyd.service
    ok "and the unit runs under its own filter" says "[a-z]{4} [a-z]{4}" systemctl show -P SystemCallFilter "$unit"
    ok "without any of the rehearsal's" not says "[a-z]{4}" systemctl show -P SystemCallLog "$unit"
    ok "as it did before" within 20 systemctl is-active "$unit"
}

web() { says "^HTTP/1.1 200" port 80 "GET / HTTP/1.0" "Host: localhost" ""; }
perform nginx.service web <<'CONF'
[Service]
NoNewPrivileges=yes
ProtectSystem=full
RestrictNamespaces=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
CONF
ok "nginx.service reloads under the remedy, since its reload was rehearsed" systemctl reload nginx.service
ok "and works" within 20 web
killed nginx.service
systemctl stop nginx.service

store() { [[ $(redis-cli set answer 42) == OK && $(redis-cli get answer) == 42 ]]; }
perform redis-server.service store <<'CONF'
[Service]
SystemCallArchitectures=native
RestrictNamespaces=yes
LockPersonality=yes
SystemCallFilter=
SystemCallFilter=@basic-io @file-system @io-event @signal @process
SystemCallErrorNumber=EPERM
CONF
systemctl stop redis-server.service

# A program that moves a child into a scope of its own, as PAM does with a login. The child outlives the rehearsal.
cat >/usr/local/bin/moves <<'SH'
#!/bin/sh
systemd-run --scope --quiet --unit=moved-$$ sh -c 'while :; do uname; sleep 1; done' &
exec sleep infinity
SH
chmod +x /usr/local/bin/moves
unit moves.service <<'CONF'
[Service]
ExecStart=/usr/local/bin/moves
ExecStop=/usr/bin/nproc
StandardOutput=null
SystemCallFilter=~uname sched_getaffinity
SystemCallErrorNumber=EPERM
CONF
systemctl daemon-reload
said=$(mktemp)
ok "a program that moves a child is rehearsed" sh -c 'harden-why --json rehearse moves.service --yes --for 10s >"$0"' "$said"
ok "the child's calls and those of the stop are found" jq -e '[.rehearsal.calls[].call] == ["sched_getaffinity", "uname"]' "$said"
ok "and the child is named, since it outlives the rehearsal" jq -e '.rehearsal.survivors | any(.command | contains("uname"))' \
    "$said"
sleep 5
ok "its later calls raise no alert" not says uname journalctl --no-pager -o cat -t harden-whyd -g uname
ok "and are of no other unit" not answers '.units[] | select(.unit | startswith("moved-"))'
jq -r '.rehearsal.survivors[].pid' "$said" | xargs -r kill
systemctl stop moves.service
rm "$said"
finish
