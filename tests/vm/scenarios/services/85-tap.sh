# A service that runs while some of its calls are refused with an error, without a record: a tap finds which.
. "$PAYLOAD/guest/heal.sh"
afresh redis-server.service
unit=redis-server.service
path=/etc/systemd/system/$unit.d/50-hardening.conf
unit "$unit.d/50-hardening.conf" <<'CONF'
[Service]
SystemCallFilter=@system-service
SystemCallFilter=~@sync
SystemCallErrorNumber=EPERM
CONF
systemctl daemon-reload
saves() { says "^OK" redis-cli save; }

# Watches refused calls while redis saves now and then, and writes the answer.
tap() {
    local saving
    while sleep 0.2; do saves; done >/dev/null 2>&1 &
    saving=$!
    harden-why --json tap --for 5s "$unit" | tee "$answer"
    kill "$saving"
    wait "$saving" 2>/dev/null
    [[ -s $answer ]]
}
counted() { jq '[.refusals[] | select(.errno == "EPERM" and (.call | test("^(f|fdata)sync$"))) | .count] | add // 0' "$answer"; }
answer=$(mktemp)

systemctl start "$unit"
ok "redis answers" within 20 says PONG redis-cli ping
ok "but cannot save" not saves
# Otherwise it would not stop before it has.
redis-cli config set save "" >/dev/null
ok "of which the kernel tells nothing" exits 0 harden-why --exit-code "$unit"
ok "redis is watched" tap
note "$(jq -c '[.refusals[] | "\(.call) \(.errno) \(.count)"]' "$answer")"
ok "a call is refused again and again" test "$(counted)" -ge 3
ok "no other, and by nothing but the line that does" judged "[.units[0].denials[]
    | .source, .cause.kind, (.cause.directives[] | .directive, .file, .line, .effect)] | unique
    == [3, \"$path\", \"EPERM\", \"SystemCallFilter\", \"tap\", \"unit\"]"
ok "nothing is lost" judged '.notes == []'
seen=$(counted)
ok "the daemon has it" within 10 answers "[.units[0].denials[] | select(.source == \"tap\" and .errno == \"EPERM\")
    | .count] | add == $seen" "$unit"
ok "the remedy is applied" timeout 120 harden-why apply --yes --restart "$unit"
ok "redis answers again" within 20 says PONG redis-cli ping
redis-cli config set save "" >/dev/null
# It calls fdatasync where fsync succeeds.
ok "the next call is seen" tap
ok "and no other" judged '[.refusals[].call] == ["fdatasync"]'
ok "its remedy is applied, too" timeout 120 harden-why apply --yes --restart "$unit"
ok "redis saves" within 20 saves
ok "which is watched once more" tap
ok "and is refused nothing" judged '.refusals == []'
systemctl stop "$unit"
rm "$answer"
finish
