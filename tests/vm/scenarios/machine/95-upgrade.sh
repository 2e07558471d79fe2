# A new version, removal, and purge of the package.
. "$PAYLOAD/guest/lib.sh"

victim kept
systemctl daemon-reload
systemctl start kept.service
ok "a denial before" within 20 denied kept
pid=$(systemctl show -P MainPID harden-whyd)
before=$(dpkg-query -W -f '${Version}' harden-why)

ok "the next version is installed" apt-get -q -y install "$PAYLOAD/harden-why-next.deb"
ok "it is another one" test "$(dpkg-query -W -f '${Version}' harden-why)" = "$before+next"
ok "the daemon runs anew" within 20 harden-why status
ok "as another process" test "$(systemctl show -P MainPID harden-whyd)" != "$pid"
ok "the store was kept" denied kept
systemctl start kept.service
ok "and goes on" within 20 denied kept 2

ok "it is removed" apt-get -q -y remove harden-why
ok "and nothing runs" not systemctl is-active harden-whyd
ok "but the store stays" test -d /var/lib/harden-why
ok "it is purged" apt-get -q -y purge harden-why
ok "with its store" not test -e /var/lib/harden-why
ok "and nothing of it is left" test -z "$(ls -d /etc/harden-why* /usr/lib/systemd/system/harden-why* 2>/dev/null)"
finish
