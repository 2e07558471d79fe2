# The daemon is killed again and again while it watches, and while it begins to: the kernel ends its programs, and it watches again.
. "$PAYLOAD/guest/lib.sh"
mkdir -p /etc/systemd/system/harden-whyd.service.d
printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=50ms\n' >/etc/systemd/system/harden-whyd.service.d/kills.conf
systemctl daemon-reload
systemctl restart harden-whyd
watches() { says '"watches_calls": ?true' harden-why --json status >/dev/null 2>&1; }
seconds() { awk -v ms="$1" 'BEGIN { printf "%.1f", ms / 1000 }'; }
now() { date +%s%3N; }
longest_start=0 longest_end=0 kills=0 failed=0 began=$SECONDS
while ((kills < 100 && SECONDS - began < 400)); do
    from=$(now)
    within 60 watches >/dev/null || failed=$((failed + 1))
    took=$(($(now) - from)) pid=$(systemctl show -P MainPID harden-whyd)
    ((took <= longest_start)) || longest_start=$took
    from=$(now)
    systemctl kill -s KILL harden-whyd
    while [[ -e /proc/$pid ]]; do sleep 0.05; done
    took=$(($(now) - from)) kills=$((kills + 1))
    ((took <= longest_end)) || longest_end=$took
    # While the programs are loaded.
    ((kills % 3)) || { sleep "0.$((RANDOM % 10))"; systemctl kill -s KILL harden-whyd; kills=$((kills + 1)); }
    ((kills % 10 > 1)) || note "$kills kills"
done
note "$kills kills: it watched again after at most $(seconds $longest_start) s, and was gone after at most $(seconds $longest_end) s"
ok "it watched again after each of 20 kills or more" test $((kills >= 20 && failed == 0)) = 1
ok "it watches" within 60 watches
ok "the kernel complains about nothing" not sh -c 'dmesg | grep -E "rcu.*stall|BUG:|WARNING:|lockup|blocked for more"'
rm /etc/systemd/system/harden-whyd.service.d/kills.conf
systemctl daemon-reload
finish
