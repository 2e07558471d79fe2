# Shared by the scenarios: checks that print TAP, and waiting for slow events.
# A scenario is a script that sources this file and ends with finish.
set -uo pipefail

checks=0 failures=0
output=$(mktemp)

# Sets up to the seconds since boot. The shell's own seconds follow the clock, which a scenario sets.
uptime() {
    read -r up _ </proc/uptime
    up=${up%.*}
}
uptime
checked=$up

# ok NAME COMMAND...: one check. It prints the command's output if it failed, and the time since the check
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

# exits STATUS COMMAND...: the command ends with this exit status.
exits() {
    local expected=$1 code=0
    shift
    "$@" || code=$?
    ((code == expected))
}

# within SECONDS COMMAND...: repeats the command until it succeeds or time is up; then it prints the last output.
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

# says TEXT COMMAND...: the command's output contains the text, an extended expression, in one line.
says() {
    local what=$1 said
    shift
    said=$("$@" 2>&1)
    printf '%s\n' "$said"
    grep -Eq -e "$what" <<<"$said"
}

# answers FILTER UNIT [OPTION...]: the answer as JSON fulfils a jq condition.
answers() {
    local filter=$1 said
    shift
    said=$(harden-why --json "$@")
    printf '%s\n' "$said"
    jq -e "$filter" <<<"$said" >/dev/null
}

# Prints a remark that is no check.
note() { printf '# %s\n' "$*"; }

# as USER COMMAND...: as a user with a manager, in the environment of a login session.
as() {
    local uid
    uid=$(id -u "$1")
    runuser -u "$1" -- env -C "/home/$1" XDG_RUNTIME_DIR="/run/user/$uid" \
        DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" "${@:2}"
}

# unit NAME: writes a system unit, or a drop-in of one, from standard input.
unit() {
    mkdir -p "$(dirname "/etc/systemd/system/$1")"
    cat >"/etc/systemd/system/$1"
}

# victim NAME [SETTING...]: a unit whose program makes one call, acct, which its settings deny.
victim() {
    local name=$1
    shift
    unit "$name.service" <<UNIT
[Service]
ExecStart=/usr/bin/perl -e "syscall 163, 0"
$(printf '%s\n' "${@:-SystemCallFilter=~acct}")
UNIT
}

# denied NAME [COUNT]: the denial of a victim is stored and attributed rightly.
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
