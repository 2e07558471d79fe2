# What the scenarios of real services share: a service is hardened one notch too tight, dies, and is brought back by
# harden-why alone.
. "$PAYLOAD/guest/lib.sh"

# port NUMBER [LINE...]: what a server of the machine answers to these lines.
port() {
    local number=$1
    shift
    timeout 20 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && { (($#)) && printf "%s\r\n" "$@" >&3; timeout 8 cat <&3; }' \
        "$number" "$@"
}

# heal UNIT WORKS LINE < DROP-IN: WORKS is a function that succeeds while the service does its work; LINE is the part
# of the drop-in that is too tight.
heal() {
    local unit=$1 works=$2 line=$3 path rounds=0 distinct number bad
    path=/etc/systemd/system/$unit.d/50-hardening.conf
    mkdir -p "$(dirname "$path")"
    cat >"$path"
    number=$(grep -n -x -F -e "$line" "$path" | tail -n1 | cut -d: -f1)

    systemctl stop "$unit"
    systemctl daemon-reload
    timeout 60 systemctl restart "$unit" 2>/dev/null
    ok "$unit is too tight to work" not within 4 "$works"
    ok "since a call was denied" within 20 answers '.units[0].denials | length >= 1 and any(.action == "kill_process")' "$unit"
    ok "the line that is too tight is named" answers '[.units[0].denials[].cause.directives[]
        | select(.directive == "SystemCallFilter" and .file == "'"$path"'" and .line == '"$number"')] | length >= 1' "$unit"
    while ! within 6 "$works" >/dev/null; do
        rounds=$((rounds + 1))
        if ((rounds > 25)); then
            ok "$unit works within 25 rounds" false
            return
        fi
        # Every answer is to the point: what is denied is denied by the drop-in, or was and is lifted.
        bad='[.units[0].denials[] | select((.cause.kind | startswith("fixed") | not) and
            (.cause.kind != "unit" or (.cause.directives | length == 0 or any(.directive != "SystemCallFilter" or .file != "'"$path"'"))))]'
        ok "round $rounds: the answer names the drop-in, and nothing else" answers "$bad == []" "$unit"
        note "$(harden-why --json "$unit" |
            jq -r '[.units[0].denials[] | select(.cause.kind == "unit") | "\(.call) of \(.exe)"] | join(", ")')"
        systemctl reset-failed "$unit"
        ok "round $rounds: apply" timeout 120 harden-why apply --yes --restart "$unit" || {
            harden-why "$unit" | sed 's/^/#   /'
            return
        }
    done
    distinct=$(harden-why --json "$unit" | jq '[.units[0].denials[] | .call] | unique | length')
    note "$unit: $rounds rounds for $distinct distinct calls"
    ok "$unit works after at most as many rounds as there were distinct calls" test "$rounds" -ge 1 -a "$rounds" -le "$distinct"
    ok "and is active" systemctl is-active "$unit"
    systemctl stop "$unit"
}
