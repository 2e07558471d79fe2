# Threads that stay in a call after a failed check cost other units no denial. Each opens a FIFO of its own, which is not cached: the
# kernel then looks at the mount before it looks for the file, and waits for a reader after.
. "$PAYLOAD/guest/lib.sh"
skipped() { harden-why --json status | jq .calls_skipped; }
many_skipped() { test "$(skipped)" -ge 500; }
ok "the daemon watches failed calls" within 60 says '"watches_calls": ?true' harden-why --json status
mkdir /srv/stuck
seq -f /srv/stuck/%g 700 | xargs mkfifo -m 666
unit stuck.service <<'UNIT'
[Service]
User=nobody
ReadOnlyPaths=/srv/stuck
ExecStart=/usr/bin/python3 -c 'import os, threading; [threading.Thread(target=os.open, args=(f"/srv/stuck/{number}", os.O_WRONLY | os.O_CREAT)).start() for number in range(1, 701)]'
UNIT
unit lacks-chown.service <<'UNIT'
[Service]
Type=oneshot
WorkingDirectory=/var/tmp
CapabilityBoundingSet=~CAP_CHOWN
ExecStart=/bin/sh -c 'touch mine && chown 1 mine'
UNIT
systemctl daemon-reload
echo 2 >/proc/sys/vm/drop_caches
ok "700 threads begin to open a FIFO each" systemctl start stuck.service
ok "most find no room left for their unit" within 60 many_skipped
note "$(skipped) calls were skipped"
systemctl start lacks-chown.service
ok "a denial of another unit is reported" within 20 says CAP_CHOWN harden-why lacks-chown
ok "the threads are still there" systemctl is-active stuck.service
systemctl stop stuck.service
rm -r /srv/stuck
finish
