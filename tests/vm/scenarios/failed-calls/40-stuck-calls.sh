# Threads that stay in a call after a failed check cost other units no denial.
. "$PAYLOAD/guest/lib.sh"
ok "the daemon watches failed calls" within 60 says '"watches_calls": ?true' harden-why --json status
mkdir /srv/stuck && mkfifo /srv/stuck/fifo && chmod -R 777 /srv/stuck
unit stuck.service <<'UNIT'
[Service]
User=nobody
ReadOnlyPaths=/srv/stuck
ExecStart=/usr/bin/python3 -c 'import os, threading; [threading.Thread(target=os.open, args=("/srv/stuck/fifo", os.O_WRONLY | os.O_CREAT)).start() for _ in range(700)]; print("stuck", flush=True)'
UNIT
unit lacks-chown.service <<'UNIT'
[Service]
Type=oneshot
WorkingDirectory=/var/tmp
CapabilityBoundingSet=~CAP_CHOWN
ExecStart=/bin/sh -c 'touch mine && chown 1 mine'
UNIT
systemctl daemon-reload
ok "700 threads begin to open a FIFO" systemctl start stuck.service
ok "and stay there" within 60 says '^stuck' journalctl --no-pager -q -o cat -u stuck.service
note "$(harden-why --json status | jq -c '[.failed_calls, .calls_skipped, .skipped_calls] | map(select(. != null))')"
systemctl start lacks-chown.service
ok "a denial of another unit is reported" within 20 says CAP_CHOWN harden-why lacks-chown
ok "the threads are still there" systemctl is-active stuck.service
systemctl stop stuck.service
rm -r /srv/stuck
finish
