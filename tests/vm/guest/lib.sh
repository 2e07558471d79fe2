# What scenarios share: checks that speak TAP, and waiting for what takes its time.
# A scenario is a script that sources this and ends with finish.
set -uo pipefail

checks=0 failures=0
output=$(mktemp)

# Sets up to the seconds since boot. The shell's own go by the clock, which a scenario sets.
uptime() {
    read -r up _ </proc/uptime
    up=${up%.*}
}
uptime
checked=$up

# ok WHAT COMMAND...: one check. What the command said is shown if it failed, and how long it has been since the check
# before if that was long.
ok() {
    local what=$1 code=0 up
    shift
    checks=$((checks + 1))
    "$@" >"$output" 2>&1 || code=$?
    uptime
    ((up - checked < 3)) || what+=" # $((up - checked)) s"
    checked=$up
    if ((code == 0)); then
        printf 'ok %s - %s\n' "$checks" "$what"
    else
        failures=$((failures + 1))
        printf 'not ok %s - %s\n' "$checks" "$what"
        printf '# %s: exit code %s\n' "$*" "$code"
        head -c 6000 "$output" | sed 's/^/#   /'
        return 1
    fi
}

# not COMMAND...: succeeds where it fails.
not() { ! "$@"; }

# within SECONDS COMMAND...: until it succeeds, or time is up. What it said the last time is shown.
within() {
    local deadline said up
    uptime
    deadline=$((up + $1))
    shift
    until said=$("$@" 2>&1); do
        uptime
        if ((up >= deadline)); then
            printf '%s\n' "$said"
            return 1
        fi
        sleep 0.2
    done
}

# says WHAT COMMAND...: the output of the command holds it, as a line or part of one (an extended expression).
says() {
    local what=$1 said
    shift
    said=$("$@" 2>&1)
    printf '%s\n' "$said"
    grep -Eq -e "$what" <<<"$said"
}

# answers FILTER UNIT [OPTION...]: the answer as JSON fulfils a condition of jq.
answers() {
    local filter=$1 said
    shift
    said=$(harden-why --json "$@")
    printf '%s\n' "$said"
    jq -e "$filter" <<<"$said" >/dev/null
}

# Tells something that is no check.
note() { printf '# %s\n' "$*"; }

# as USER COMMAND...: as a user with a manager of its own, where a login session would put it.
as() {
    local uid
    uid=$(id -u "$1")
    runuser -u "$1" -- env -C "/home/$1" XDG_RUNTIME_DIR="/run/user/$uid" \
        DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" "${@:2}"
}

# unit NAME: a system unit, or a drop-in of one, from standard input.
unit() {
    mkdir -p "$(dirname "/etc/systemd/system/$1")"
    cat >"/etc/systemd/system/$1"
}

# victim NAME [SETTING...]: a unit whose program makes one call, acct, that its settings do not like.
victim() {
    local name=$1
    shift
    unit "$name.service" <<UNIT
[Service]
ExecStart=/usr/bin/perl -e "syscall 163, 0"
$(printf '%s\n' "${@:-SystemCallFilter=~acct}")
UNIT
}

# denied NAME [COUNT]: the denial of a victim is known, and told right.
denied() {
    answers '.units | length == 1 and (.[0].denials | length == 1 and (.[0] | .call == "acct" and .count == '"${2:-1}"'
        and .attribution.confidence == "certain" and .cause.kind == "unit"
        and ([.cause.directives[] | .directive, .file, .line]
            == ["SystemCallFilter", "/etc/systemd/system/'"$1"'.service", 3])))' --system "$1.service"
}

# alerted NAME: journalctl shows the alert among the unit's lines.
alerted() {
    says acct journalctl --no-pager -o cat -u "$1.service" MESSAGE_ID=08f099b23cdb4d1399f57dcd22ef4be3
}

finish() {
    printf '1..%s\n' "$checks"
    rm -f "$output"
    exit $((failures > 0))
}
