# The clock is set back an hour, and forward again.
. "$PAYLOAD/guest/lib.sh"

for name in steady past; do victim $name; done
systemctl daemon-reload
pid=$(systemctl show -P MainPID harden-whyd)
# The times of a unit's denial are within a minute of these, in seconds since the epoch.
times() {
    answers '.units[0].denials[0] | [.first, .last] | map(sub("\\.[0-9]+Z"; "Z") | fromdate)
        | (.[0] - '"$2"' | fabs) < 60 and (.[1] - '"$3"' | fabs) < 60' "$1.service"
}

systemctl start steady.service
ok "a denial" within 20 denied steady
noon=$(date +%s)
ok "with its time" times steady "$noon" "$noon"

date -s "-1 hour" >/dev/null
ok "the clock is an hour behind, and the daemon listens" harden-why status
systemctl start past.service
ok "a denial an hour earlier is told" within 20 denied past
back=$(date +%s)
ok "with the time it was" times past "$back" "$back"
ok "and its alert" within 20 alerted past
ok "an age is no nonsense" says "when .*(just now|[0-9]+ seconds? ago)" harden-why -v past.service
ok "what now lies ahead is not said to be long ago" not says "when .* ago" harden-why -v steady.service
systemctl start steady.service
ok "a second one is counted" within 20 denied steady 2
ok "and is its first, as the clock has it, and its last" times steady "$back" "$back"
ok "the list of units holds both" says "past.service" harden-why
ok "since a while ago, there is the new one" exits 1 harden-why --exit-code --since "10 minutes ago" past.service

date -s "+1 hour" >/dev/null
systemctl start past.service
ok "forward again, it is counted" within 20 denied past 2
now=$(date +%s)
ok "from the hour before until now" times past "$back" "$now"
systemctl start steady.service
ok "and the other one" within 20 denied steady 3
ok "from its earliest until now" times steady "$back" "$now"
ok "it is still the same daemon" test "$(systemctl show -P MainPID harden-whyd)" = "$pid"
ok "which lost nothing" says '"lost": 0' harden-why --json status
finish
