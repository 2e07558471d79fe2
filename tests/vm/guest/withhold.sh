# Shared by the scenarios of accesses: one line takes from a working service what it needs, and harden-why gives it back.
. "$PAYLOAD/guest/tighten.sh"

# withhold UNIT WORKS DIRECTIVE LINE...: WORKS is a function that succeeds while the service works. These lines harden it one line
# too much, and harden-why has to name the directive, there or in the unit's file. A person taps the restart, reads the answer,
# and applies the remedy.
withhold() {
    local unit=$1 works=$2 directive=$3 place number rounds=0 said answer first remedy drop_in
    shift 3
    said=$(mktemp) answer=$(mktemp)
    drop_in=/etc/systemd/system/$unit.d/zz-harden-why.conf
    timeout 60 systemctl start "$unit"
    ok "$unit works without the line" within 30 "$works"
    printf '%s\n' '[Service]' "$@" | unit "$unit.d/50-hardening.conf"
    systemctl daemon-reload
    place=/etc/systemd/system/$unit.d/50-hardening.conf
    grep -q "^$directive=" "$place" || place=$(systemctl show -P FragmentPath "$unit")
    number=$(grep -n "^$directive=" "$place" | tail -n 1 | cut -d: -f1)
    systemctl stop "$unit"
    until serving "$unit" "$works" >/dev/null; do
        rounds=$((rounds + 1))
        if ((rounds > 4)); then break; fi
        ok "$unit, ${*: -1}: tap shows a denial" tapped "$unit" "$works" "$said" || break
        first=$(headline "$said")
        note "first line: $first"
        harden-why --json "$unit" >"$answer"
        ok "each denial is of $directive, with its line" judged "($told_so) and ([$newest | .cause.directives[]
            | [.directive, .file, .line]] | unique == [[\"$directive\", \"$place\", $number]])" || sed 's/^/# /' "$said"
        remedy=()
        judged '.units[0].remedies | any(.default)' >/dev/null || remedy=(--remedy 1)
        # The restart can show the next denial, and then the exit status is 1.
        ok "apply ${remedy[*]}" says '"outcome": ?"applied"' timeout 100 harden-why --json apply --yes --restart "${remedy[@]}" "$unit" ||
            break
    done
    ok "$unit works after $rounds restarts" serving "$unit" "$works"
    note "${*: -1}: $rounds restarts: $(grep -h '^[^#[].*=' "$drop_in" | paste -sd' ')"
    ok "revert" harden-why revert --yes "$unit"
    timeout 60 systemctl restart "$unit" 2>/dev/null
    ok "$unit fails again" not serving "$unit" "$works"
    afresh "$unit"
    systemctl reset-failed "$unit" 2>/dev/null
    rm "$said" "$answer"
}

# serving UNIT WORKS: it is active, and works within some seconds.
serving() { systemctl is-active "$1" >/dev/null && within 15 "$2"; }

# tapped UNIT WORKS FILE: the answer of a tap of the restarted unit, while it is used. Succeeds if the answer names a line.
tapped() {
    local using
    while sleep 1; do "$2"; done >/dev/null 2>&1 &
    using=$!
    harden-why tap --restart --yes --for "${TAP_FOR:-20s}" "$1" >"$3" 2>&1
    kill "$using"
    wait "$using" 2>/dev/null
    says '^ *--> /' cat "$3"
}

# The first two sentences in the answer of a tap: what was denied by which line, and how often.
headline() { sed '/^  by \//Q; /^ *--> /Q' "$1" | tr -s ' \n' ' '; }
