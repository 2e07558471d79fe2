# The daemon goes on while an administrator or an upgrade restarts what it depends on.
. "$PAYLOAD/guest/lib.sh"

for name in before journald bus reexec killed; do victim $name; done
systemctl daemon-reload
pid=$(systemctl show -P MainPID harden-whyd)
same() { test "$(systemctl show -P MainPID harden-whyd)" = "$pid"; }

systemctl start before.service
ok "a denial is told" within 20 denied before

systemctl restart systemd-journald
systemctl start journald.service
ok "after journald is restarted" within 20 denied journald
ok "its alert is in the journal" within 20 alerted journald

systemctl restart dbus
ok "after the bus is restarted, it is asked again" within 30 harden-why status
systemctl start bus.service
ok "and a denial is told" within 20 denied bus
ok "with its alert" within 20 alerted bus
ok "as is what was before" denied before

systemctl daemon-reexec
systemctl start reexec.service
ok "after PID 1 executes itself again" within 20 denied reexec
ok "it is still the same daemon" same

systemctl kill -s KILL harden-whyd
ok "killed, it comes back" within 30 harden-why status
ok "as another process" not same
systemctl start killed.service
ok "and tells" within 20 denied killed
ok "and has forgotten nothing" denied before
systemctl start before.service
ok "and counts on" within 20 denied before 2
finish
