# The table of tests/attribution.rs, with PID 1 as the manager and the installed daemon.
. "$PAYLOAD/guest/lib.sh"

table() {
    HARDEN_WHY_MANAGER=pid1 HARDEN_WHY_REQUIRE_KERNEL=1 "$PAYLOAD/attribution" --exact --nocapture "$1" 2>&1 |
        tee /run/out/attribution-"$1"
}
ok "each violation is attributed to its unit" table violation_of_each_kind_is_attributed_to_its_unit
grep '^|' /run/out/attribution-violation_of_each_kind_is_attributed_to_its_unit | sed 's/^/# /'
ok "it did not skip" not grep -q skipped /run/out/attribution-violation_of_each_kind_is_attributed_to_its_unit
# The daemon is stopped for as long as the units take, which a slow machine makes longer than the watchdog waits.
systemctl service-watchdogs no
ok "a late daemon attributes by what is left" table late_daemon_attributes_by_what_is_left
grep '^|' /run/out/attribution-late_daemon_attributes_by_what_is_left | sed 's/^/# /'
systemctl service-watchdogs yes
finish
