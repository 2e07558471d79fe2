# Shared by the scenarios of services that work: tapped from their start through their work, they are denied nothing.
. "$PAYLOAD/guest/withhold.sh"

# The usual lines of guides, which these services tolerate. Most mounts of a sandbox, so that absent files are looked at, and
# no CAP_SYS_ADMIN, which the kernel looks for in each larger allocation.
tolerated=(LockPersonality=yes PrivateDevices=yes PrivateTmp=yes ProtectClock=yes ProtectControlGroups=yes ProtectHostname=yes
    ProtectKernelLogs=yes ProtectKernelModules=yes ProtectKernelTunables=yes ProtectSystem=full RestrictRealtime=yes
    "CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_PTRACE CAP_MAC_ADMIN CAP_SYSLOG"
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX")

# quiet UNIT WORKS [LINE...]: the unit with these lines works during a tap of its restart, and the answer has no finding.
quiet() {
    local unit=$1 works=$2 answer using worked
    shift 2
    answer=$(mktemp) worked=$(mktemp)
    printf '%s\n' '[Service]' "${tolerated[@]}" "$@" | unit "$unit.d/50-hardening.conf"
    systemctl daemon-reload
    while sleep 0.5; do "$works" && echo >>"$worked"; done >/dev/null 2>&1 &
    using=$!
    harden-why --json tap --restart --yes --for "${TAP_FOR:-25s}" "$unit" >"$answer"
    kill "$using"
    wait "$using" 2>/dev/null
    ok "$unit works during the tap" test "$(wc -l <"$worked")" -ge 2
    ok "$unit: no finding" judged '[.units[].denials[]] == [] and all(.refusals[]; .fallback)'
    # Some failed calls are of processes that are gone before their mounts are read: their number is a note.
    ok "$unit: the tap saw what it could" judged 'all(.notes[].id; (test("-not-") | not) or . == "failures-not-judged")'
    note "$unit: worked $(wc -l <"$worked") times; $(jq -c '[.notes[] | .id // .code // .]' "$answer")"
    afresh "$unit"
    rm "$answer" "$worked"
}
