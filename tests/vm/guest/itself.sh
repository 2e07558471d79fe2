# The daemon is not denied anything itself: after all scenarios, no denial of its own is stored.
. "$PAYLOAD/guest/lib.sh"
ok "the daemon runs under its filter" test "$(systemctl show -P SystemCallFilter harden-whyd | wc -w)" -gt 10
ok "nothing of its own was denied" exits 0 harden-why --exit-code harden-whyd.service
ok "it was not replaced by its watchdog" not says "Watchdog timeout" journalctl --no-pager -b -u harden-whyd
ok "it lost nothing" says '"lost": 0' harden-why --json status
ok "its log has no error" not says '^ *ERROR' journalctl --no-pager -b -o cat -u harden-whyd -t harden-whyd
finish
