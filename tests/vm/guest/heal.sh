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
    local unit=$1 works=$2 line=$3 path rounds=0 number current distinct
    systemctl start "$unit"
    ok "$unit works without hardening" within 20 "$works"
    systemctl stop "$unit"

    path=/etc/systemd/system/$unit.d/50-hardening.conf
    unit "$unit.d/50-hardening.conf"
    number=$(grep -n -x -F -e "$line" "$path" | tail -n1 | cut -d: -f1)
    systemctl daemon-reload
    timeout 60 systemctl restart "$unit" 2>/dev/null
    ok "$unit is too tight to work" not up "$unit" "$works"
    ok "since a call was denied" within 20 answers '.units[0].denials | any(.action == "kill_process")' "$unit"

    until up "$unit" "$works" >/dev/null; do
        current=$(harden-why --json "$unit" | jq -r "[$newest | .call + \" of \" + .exe] | join(\", \")")
        if [[ -z $current ]]; then
            ok "$unit works, now that nothing is denied any more" within 30 "$works"
            break
        fi
        rounds=$((rounds + 1))
        note "round $rounds: $current"
        if ((rounds > 25)); then break; fi
        ok "round $rounds: the line that is too tight is named, and nothing else" answers "[$newest
            | .cause.directives[] | [.directive, .file, .line]] | unique == [[\"SystemCallFilter\", \"$path\", $number]]" "$unit"
        systemctl reset-failed "$unit"
        ok "round $rounds: apply" timeout 120 harden-why apply --yes --restart "$unit" || break
    done
    distinct=$(harden-why --json "$unit" | jq '[.units[0].denials[].call] | unique | length')
    note "$unit: $rounds rounds, $distinct distinct calls"
    ok "$unit works after at most as many rounds as there were distinct calls" test "$rounds" -ge 1 -a "$rounds" -le "$distinct"
    ok "and is active" systemctl is-active "$unit"
    systemctl stop "$unit"
}

# What is denied as the settings are now.
newest='.units[0].denials[] | select(.cause.kind == "unit")'

# up UNIT WORKS: it is active and comes to work; one that is dead will not.
up() { systemctl is-active "$1" >/dev/null && within 5 "$2"; }
