# Whose process was it? The table of tests/attribution.rs, with PID 1 as the manager and the installed daemon.
. "$PAYLOAD/guest/lib.sh"

table() {
    HARDEN_WHY_MANAGER=pid1 HARDEN_WHY_REQUIRE_KERNEL=1 "$PAYLOAD/attribution" --exact --nocapture "$1" 2>&1 |
        tee /run/out/attribution-"$1"
}
ok "every record finds its unit" table every_record_finds_its_unit
grep '^|' /run/out/attribution-every_record_finds_its_unit | sed 's/^/# /'
ok "it did not skip" not grep -q skipped /run/out/attribution-every_record_finds_its_unit
ok "a daemon that is late still tells" table a_daemon_that_is_late_still_tells
grep '^|' /run/out/attribution-a_daemon_that_is_late_still_tells | sed 's/^/# /'
finish
