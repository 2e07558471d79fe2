# Capabilities and read-only paths that units are denied: seen as calls fail, without a tap, alerted and answered. Nothing is
# reported of services that work.
. "$PAYLOAD/guest/tighten.sh"

# Prints the alerts of such denials.
alerts() { journalctl --no-pager -q -o cat MESSAGE_ID=cdb7aeedec4b477c886271c6eaf7c9af; }
alerted_of() { says "$2" journalctl --no-pager -q -o cat -u "$1" MESSAGE_ID=cdb7aeedec4b477c886271c6eaf7c9af; }
works() { systemctl restart "$1" && says "$2" journalctl --no-pager -o cat -u "$1"; }
resident() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$(systemctl show -P MainPID harden-whyd)/status"; }
split() { awk '/^(RssAnon|RssFile|Threads):/ { printf "%s %s ", $1, $2 }' "/proc/$(systemctl show -P MainPID harden-whyd)/status"; }
answer=$(mktemp)

ok "the tests of the programs in the kernel pass" env HARDEN_WHY_REQUIRE_FEXIT=1 \
    "$PAYLOAD/harden_why" --test-threads=1 kernel::call_failures::
ok "the daemon watches failed calls by default" within 60 says '"watches_calls": ?true' harden-why --json status
note "the daemon uses $(resident) kB ($(split))"
ok "and says so" says "watch +failed calls of system units" harden-why status

# Services that work, as the distribution installs them, and what they do.
postconf -e inet_interfaces=loopback-only mydestination=localhost myhostname=harden.localdomain \
    "local_recipient_maps=" "maillog_file=" minimal_backoff_time=2s queue_run_delay=2s
. "$PAYLOAD/guest/mail.sh"
installed openssh-server
postfix=postfix
if systemctl cat postfix.service | grep -q '^ExecStart=/bin/true'; then postfix=postfix@-; fi
for service in nginx redis-server unbound "$postfix" cyrus-imapd ssh systemd-logind systemd-journald systemd-udevd cron; do
    ok "$service starts" systemctl restart "$service"
    ok "$service runs" within 20 systemctl is-active "$service"
done
ok "nginx serves" within 30 serves
ok "redis answers" within 20 says PONG redis-cli ping
ok "postfix delivers" within 60 delivers
ok "ssh answers" within 30 says "^SSH-2" port 22
sleep 3
ok "nothing was reported of these services, of the boot and of the installation" test -z "$(alerts)"
ok "and nothing is stored" answers '.overview == []' --all
for service in nginx redis-server unbound postfix cyrus-imapd ssh; do systemctl stop "$service" 2>/dev/null; done

unit lacks-bind.service <<'UNIT'
[Service]
Type=oneshot
CapabilityBoundingSet=~CAP_NET_BIND_SERVICE
ExecStart=/usr/bin/perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0) or die; bind(S, sockaddr_in(81, INADDR_ANY)) or die "bind: $!\n"; print "bound\n"'
UNIT
unit lacks-chown.service <<'UNIT'
[Service]
Type=oneshot
WorkingDirectory=/var/tmp
CapabilityBoundingSet=~CAP_CHOWN CAP_SYS_TIME
ExecStart=/bin/sh -c 'touch mine && chown 1 mine && echo changed'
UNIT
unit lacks-user.service <<'UNIT'
[Service]
Type=oneshot
User=nobody
ExecStart=/usr/bin/perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0) or die; bind(S, sockaddr_in(82, INADDR_ANY)) or die "bind: $!\n"; print "bound\n"'
UNIT
unit read-only.service <<'UNIT'
[Service]
Type=oneshot
ProtectSystem=strict
WorkingDirectory=/var/lib
ExecStartPre=/bin/sh -c 'exec /usr/bin/true'
ExecStart=/bin/sh -c 'echo x >harden-why-state && mkdir -p /var/opt/harden-why && echo written'
UNIT
unit harmless.service <<'UNIT'
[Service]
Type=oneshot
User=nobody
ProtectSystem=strict
ExecStart=-/bin/sh -c 'mkdir /usr/harmless; chown 1 /etc/passwd; kill -9 1; echo >/proc/sys/kernel/hostname; ls /root'
UNIT
systemctl daemon-reload

# remedy UNIT: applies the default remedy or, without one, the first.
remedy() {
    local number=()
    harden-why --json "$1" | jq -e '.units[0].remedies | any(.default)' >/dev/null || number=(--remedy 1)
    timeout 120 harden-why apply --yes "${number[@]}" "$1"
}

# denied_access UNIT DIRECTIVE LINE FILTER SAID: the unit fails, and its answer is there at once; the remedy lets it work.
denied_access() {
    local unit=$1 directive=$2 line=$3 filter=$4 said=$5
    ok "$unit fails" not systemctl start "$unit"
    ok "$unit: the denial is reported" within 20 answers ".units[0].denials | any($filter)" "$unit"
    harden-why --json "$unit" >"$answer"
    ok "$unit: the answer names the line, and nothing else" judged "[.units[0].denials[] | .event, .source, (.cause.directives[]
        | .directive, .file, .line)] | unique == ([\"access-denial\", \"audit\", \"$directive\",
        \"/etc/systemd/system/$unit\", $line] | unique)"
    ok "$unit: the alert is in its journal" within 10 alerted_of "$unit" "$directive="
    ok "$unit: a remedy is applied" remedy "$unit"
    if [[ $unit == read-only.service ]]; then
        # The remedy opens the directory of the first call alone.
        ok "$unit fails at its next call" not systemctl start "$unit"
        ok "$unit: this is reported, too" within 20 answers ".units[0].denials | length == 2" "$unit"
        ok "$unit: its remedy is applied" remedy "$unit"
    fi
    ok "$unit works" works "$unit" "^$said\$"
}
denied_access lacks-bind.service CapabilityBoundingSet 3 '.access.kind == "capability" and .call == "bind"' bound
denied_access lacks-chown.service CapabilityBoundingSet 4 '.access.kind == "capability" and .access.detail == "CAP_CHOWN bounding"' changed
denied_access lacks-user.service User 3 '.access.detail == "CAP_NET_BIND_SERVICE effective"' bound
denied_access read-only.service ProtectSystem 3 '.access.kind == "read-only-path" and (.access.path | test("^/var/(lib|opt)/harden-why"))' written
ok "a unit asks for what no setting withholds" systemctl start harmless.service
sleep 3
ok "has no denial" answers '.units == [] or .units[0].denials == []' harmless.service

note "the programs of the kernel were loaded in $(journalctl --no-pager -q -o short-monotonic -u harden-whyd |
    sed -n 's/^\[ *\([0-9.]*\)\].*the kernel reports failed calls.*/\1/p' | head -n1) s after the boot"
note "the daemon uses $(resident) kB ($(split))"
ok "the daemon uses at most 16 MB" test "$(resident)" -le 16384
unit recurring.service <<'UNIT'
[Service]
Type=oneshot
ProtectSystem=strict
ExecStart=-/bin/sh -c 'for i in $(seq 500); do mkdir /etc/harden-why-recurring; done'
UNIT
systemctl daemon-reload
ok "a call fails 500 times" systemctl start recurring.service
ok "and is counted" within 30 answers '.units[0].denials | length == 1 and .[0].count == 500' recurring.service

mkdir -p /etc/harden-why/harden-why.conf.d
printf '[failed-calls]\nwatch = false\n' >/etc/harden-why/harden-why.conf.d/failed-calls.conf
ok "the configuration switches it off" systemctl reload harden-whyd
ok "which the status says" within 10 says '"calls_not_watched": ?"\[failed-calls\] watch' harden-why --json status
note "the daemon uses $(resident) kB without it ($(split))"
rm /etc/harden-why/harden-why.conf.d/failed-calls.conf
ok "without the line it is on again" systemctl reload harden-whyd
ok "and the programs are loaded again" within 60 says '"watches_calls": ?true' harden-why --json status
rm "$answer"
finish
