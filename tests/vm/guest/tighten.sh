# Shared by the scenarios of services that no other test uses: each is hardened by a filter that lacks most of what it
# needs, and works again after some restarts by apply, or after one rehearsal.
. "$PAYLOAD/guest/heal.sh"

# The filter of a guide for programs that read files, which took a user one restart for each call of a server.
strict=("SystemCallFilter=" "SystemCallFilter=@basic-io @file-system @io-event @signal @process")

# installed PACKAGE: from the packages that the image holds. It is not started.
installed() {
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    ok "$1 is installed" apt-get -q -y install "$PAYLOAD_DEBS/$1"/*.deb
    rm /usr/sbin/policy-rc.d
    systemctl daemon-reload
}

# tighten UNIT WORKS: both ways, from the same start.
tighten() {
    local unit=$1 works=$2 said work checked_calls
    said=$(mktemp)
    systemctl stop "$unit"
    printf '%s\n' '[Service]' "${strict[@]}" | unit "$unit.d/50-hardening.conf"
    systemctl daemon-reload
    # Of an interpreter's calls, most are possible only.
    ok "$unit: check foresees denials before the first start" jq -e '.foreseen | length > 0' \
        <(harden-why --json check "$unit")
    checked_calls=$(harden-why --json check "$unit" | jq '[.foreseen[] | select(.likelihood == "likely")] | length')
    afresh "$unit"

    heal "$unit" "$works" "${strict[@]}"
    afresh "$unit"

    printf '%s\n' '[Service]' SystemCallArchitectures=native RestrictNamespaces=yes "${strict[@]}" |
        unit "$unit.d/50-hardening.conf"
    systemctl daemon-reload
    while sleep 1; do "$works"; done >/dev/null 2>&1 &
    work=$!
    ok "$unit is rehearsed, and the remedy applied" timeout 400 \
        sh -c 'harden-why --json rehearse "$0" --yes --until-idle=20s --for 200s --apply >"$1"' "$unit" "$said"
    kill "$work"
    wait "$work" 2>/dev/null
    note "$unit: $(jq '[.rehearsal.calls[].call] | unique | length' "$said") calls by one rehearsal, $checked_calls foreseen"
    ok "$unit works after one rehearsal" within 30 "$works"
    ok "and is active" systemctl is-active "$unit"
    ok "under its own filter" says "[a-z]{4} [a-z]{4}" systemctl show -P SystemCallFilter "$unit"
    afresh "$unit"
    rm "$said"
}
