# Shared by the scenarios of real services: a service is hardened one step too far, dies, and works again with the help
# of harden-why alone.
. "$PAYLOAD/guest/lib.sh"

# port NUMBER [LINE...]: prints what a server of the machine answers to these lines.
port() {
    local number=$1
    shift
    timeout 20 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && { (($#)) && printf "%s\r\n" "$@" >&3; timeout 8 cat <&3; }' \
        "$number" "$@"
}

# Succeeds if a web server has a page.
serves() { says "^HTTP/1.1 200" port 80 "GET / HTTP/1.0" "Host: localhost" ""; }

# heal UNIT WORKS LINE...: WORKS is a function that succeeds while the service works. The drop-in that hardens
# it has the usual first lines of guides and these lines; the last one is too strict.
heal() {
    local unit=$1 works=$2 path rounds=0 waits=0 number current distinct answer
    shift 2
    answer=$(mktemp)
    systemctl start "$unit"
    ok "$unit works without hardening" within 20 "$works"
    systemctl stop "$unit"

    path=/etc/systemd/system/$unit.d/50-hardening.conf
    printf '%s\n' '[Service]' LockPersonality=yes PrivateDevices=yes ProtectControlGroups=yes ProtectKernelModules=yes \
        RestrictNamespaces=yes RestrictRealtime=yes SystemCallArchitectures=native "$@" | unit "$unit.d/50-hardening.conf"
    number=$(wc -l <"$path")
    systemctl daemon-reload
    timeout 60 systemctl restart "$unit" 2>/dev/null
    ok "$unit is too tight to work" not up "$unit" "$works"
    ok "since a call was denied" within 20 answers '.units[0].denials | any(.action == "kill_process")' "$unit"

    # It may work for a moment, and then make its next call.
    until up "$unit" "$works" >/dev/null && sleep 3 && up "$unit" "$works" >/dev/null; do
        harden-why --json "$unit" >"$answer"
        current=$(jq -r "[$newest_calls | .call + \" of \" + .exe] | join(\", \")" "$answer")
        if [[ -z $current ]]; then
            # A busy machine starts it slowly.
            waits=$((waits + 1))
            ((waits <= 10)) || break
            sleep 3
            continue
        fi
        rounds=$((rounds + 1))
        note "round $rounds: $current"
        if ((rounds > 40)); then break; fi
        ok "round $rounds: the line that is too tight is named, and nothing else" judged "($told_so) and ([$newest_calls
            | .cause.directives[] | [.directive, .file, .line]] | unique == [[\"SystemCallFilter\", \"$path\", $number]])
            and ([$newest | .cause.directives[].file] | unique == [\"$path\"])"
        systemctl reset-failed "$unit"
        # The restart can show the next denial, and then the exit status is 1.
        ok "round $rounds: apply" says '"outcome": ?"applied"' timeout 120 harden-why --json apply --yes --restart "$unit" || break
    done
    harden-why --json "$unit" >"$answer"
    distinct=$(jq '[.units[0].denials[].call] | unique | length' "$answer")
    note "$unit: $rounds rounds, $distinct distinct calls"
    ok "$unit works after at most as many rounds as there were distinct calls" test "$rounds" -ge 1 -a "$rounds" -le "$distinct"
    ok "and is active" up "$unit" "$works"
    ok "what was denied is told to be fixed" judged "($told_so) and any(.units[0].denials[]; .cause.kind | startswith(\"fixed\"))"
    systemctl stop "$unit"
    rm "$answer"
}

# afresh UNIT...: resets units, as if no scenario had touched them before.
afresh() {
    local unit
    for unit; do
        systemctl stop "$unit"
        rm -rf "/etc/systemd/system/$unit.d"
    done
    systemctl daemon-reload
    systemctl stop harden-whyd.service
    rm -f /var/lib/harden-why/*
    systemctl start harden-whyd.service
}

# The denials under the present settings, and those of filters among them. The lines of guides withhold more than calls: postfix
# makes devices in vain as it starts.
newest='.units[0].denials[] | select(.cause.kind == "unit")'
newest_calls="$newest | select(.event == \"denial\")"
# The settings deny a call, or did when it was made: no other filter killed.
told_so='.units[0].denials | all(.cause.kind | . == "unit" or startswith("fixed"))'

# judged FILTER: the last answer fulfils a jq condition.
judged() {
    cat "$answer"
    jq -e "$1" "$answer" >/dev/null
}

# up UNIT WORKS: it is active and begins to work; a dead one will not.
up() { systemctl is-active "$1" >/dev/null && within 5 "$2"; }
