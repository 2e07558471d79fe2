# The unit's journal shows the alert right under systemd's own line.
. "$PAYLOAD/guest/lib.sh"

victim shot
victim watched SystemCallLog=acct Type=oneshot
systemctl daemon-reload
systemctl start shot.service watched.service
show() { journalctl --no-pager -o cat "$@"; }
denial=08f099b23cdb4d1399f57dcd22ef4be3
logged=ad655bb054d74639843e17b6cc99dc4c

ok "journalctl -u shows systemd's line" within 10 says "status=31/SYS" show -u shot.service
ok "and the alert" within 10 says "acct" show -u shot.service "MESSAGE_ID=$denial"
near() {
    # The alert is at most a few lines from systemd's, whichever came first.
    local systemd ours
    show -u shot.service | tee /dev/stderr >"$output.lines"
    systemd=$(grep -n 'status=31/SYS' "$output.lines" | cut -d: -f1 | head -n1)
    ours=$(grep -n 'for calling acct' "$output.lines" | cut -d: -f1 | head -n1)
    rm "$output.lines"
    [[ -n $ours ]] && ((ours - systemd <= 3 && systemd - ours <= 3))
}
ok "close to it" near
ok "journalctl -x explains it" says "harden-why shot.service" journalctl --no-pager -x -u shot.service
ok "under its subject" says "Subject: shot.service: a seccomp filter denied the call acct" \
    journalctl --no-pager -x -u shot.service
ok "the tag and the id list them" says "acct" show -t harden-whyd "MESSAGE_ID=$denial"

fields() { journalctl --no-pager -o json "$@" | tail -n1 | tee /dev/stderr | jq -e "$filter" >/dev/null; }
filter='.HARDEN_WHY_UNIT == "shot.service" and .HARDEN_WHY_CALL == "acct" and .HARDEN_WHY_CALL_NUMBER == "163"
    and .HARDEN_WHY_ARCH == "x86_64" and .HARDEN_WHY_ACTION == "kill_process" and .HARDEN_WHY_COUNT == "1"
    and .HARDEN_WHY_MANAGER == "system" and (.HARDEN_WHY_EXE | endswith("perl")) and (.HARDEN_WHY_INCIDENT | tonumber > 0)
    and .PRIORITY == "3" and ._UID == "0"'
ok "its fields are for machines" fields "MESSAGE_ID=$denial" HARDEN_WHY_UNIT=shot.service
filter='.HARDEN_WHY_CAUSE == "unit" and .HARDEN_WHY_DIRECTIVE == "SystemCallFilter"
    and (.HARDEN_WHY_ORIGIN | test("/shot[.]service:[0-9]+$")) and .HARDEN_WHY_REMEDY == "SystemCallFilter=acct"'
ok "and say which line denied the call, and what would let it pass" fields "MESSAGE_ID=$denial" HARDEN_WHY_UNIT=shot.service
ok "the message says it, too" says "denied by SystemCallFilter= in /" show "MESSAGE_ID=$denial" HARDEN_WHY_UNIT=shot.service
filter='.HARDEN_WHY_UNIT == "watched.service" and .PRIORITY == "4" and .HARDEN_WHY_ACTION == "log"'
ok "what was only logged is a warning" within 10 fields "MESSAGE_ID=$logged" HARDEN_WHY_UNIT=watched.service
ok "a unit that lives is told of the call it made" says "acct" show -u watched.service "MESSAGE_ID=$logged"

systemctl start shot.service
ok "the second time is counted" within 10 answers '.units[0].denials[0].count == 2' shot.service
sleep 1
ok "and no alert of its own" test "$(show "MESSAGE_ID=$denial" HARDEN_WHY_UNIT=shot.service | wc -l)" = 1
finish
