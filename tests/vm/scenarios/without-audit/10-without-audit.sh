# A kernel started with audit=0: a state that the daemon and its clients report at once, and no failure.
. "$PAYLOAD/guest/lib.sh"

ok "the kernel has no audit" grep -q 'audit=0' /proc/cmdline
ok "the socket is skipped" says "inactive" systemctl is-active harden-whyd.socket
ok "the daemon runs" within 20 systemctl is-active harden-whyd.service
sleep 15
ok "and was not restarted" says "^0$" systemctl show -P NRestarts harden-whyd.service
ok "it says why, once" says "^1$" sh -c 'journalctl -u harden-whyd | grep -c "not listening: the kernel was started with audit=0"'
ok "systemctl status shows it" says "not listening: the kernel was started with audit=0" systemctl status harden-whyd
ok "status answers at once" exits 1 timeout 5 harden-why status
ok "and names the reason" says "started with audit=0" harden-why status
ok "and advises nothing useless" not says "enable --now" harden-why status
ok "an answer for a unit says it, at once" says "not-listening" timeout 5 harden-why --json dbus.service
ok "rehearse says that it would show nothing" says "receives no records" harden-why rehearse dbus.service --yes
victim denied
systemctl daemon-reload
systemctl start denied.service
ok "a death by SIGSYS is noticed" within 20 says "denied.service" harden-why
finish
