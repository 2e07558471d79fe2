# What scenarios share: checks that speak TAP, and waiting for what takes its time.
# A scenario is a script that sources this and ends with finish.
set -uo pipefail

checks=0 failures=0
output=$(mktemp)

# ok WHAT COMMAND...: one check. What the command said is shown if it failed.
ok() {
    local what=$1
    shift
    checks=$((checks + 1))
    if "$@" >"$output" 2>&1; then
        printf 'ok %s - %s\n' "$checks" "$what"
    else
        local code=$?
        failures=$((failures + 1))
        printf 'not ok %s - %s\n' "$checks" "$what"
        printf '# %s: exit code %s\n' "$*" "$code"
        head -c 6000 "$output" | sed 's/^/#   /'
        return 1
    fi
}

# not COMMAND...: succeeds where it fails.
not() { ! "$@"; }

# within SECONDS COMMAND...: until it succeeds, or time is up.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# says WHAT COMMAND...: the output of the command holds it, as a line or part of one (an extended expression).
says() {
    local what=$1
    shift
    "$@" 2>&1 | tee /dev/stderr | grep -Eq -e "$what"
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

# unit NAME: a system unit from standard input.
unit() {
    mkdir -p "$(dirname "/etc/systemd/system/$1")"
    cat >"/etc/systemd/system/$1"
}

# calls UNIT [OPTION...]: the calls of a unit that were denied, as the answer names them.
calls() { harden-why --json "$@" | jq -r '.units[].denials[].call'; }

# answers FILTER UNIT [OPTION...]: the answer as JSON fulfils a condition of jq.
answers() {
    local filter=$1
    shift
    harden-why --json "$@" | tee /dev/stderr | jq -e "$filter" >/dev/null
}

finish() {
    printf '1..%s\n' "$checks"
    rm -f "$output"
    exit $((failures > 0))
}
