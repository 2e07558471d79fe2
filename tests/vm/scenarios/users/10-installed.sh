. "$PAYLOAD/guest/lib.sh"
ok "the package is installed" dpkg -s harden-why
ok "the daemon runs" systemctl is-active harden-whyd
ok "the daemon listens" harden-why status
finish
