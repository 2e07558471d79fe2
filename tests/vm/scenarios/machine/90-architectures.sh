# The machine forbids every ABI but its own, and a program of another ABI dies. Only a reboot undoes it,
# so few scenarios come after it.
. "$PAYLOAD/guest/lib.sh"

unit old.service <<UNIT
[Service]
Type=oneshot
ExecStart=$PAYLOAD/i386
UNIT
systemctl daemon-reload
ok "a 32-bit program runs" systemctl start old.service

conf=/etc/systemd/system.conf.d/native.conf
mkdir -p "$(dirname $conf)"
printf '# Nothing old.\n[Manager]\nSystemCallArchitectures=native\n' >$conf
ok "PID 1 comes under it as it executes itself again" systemctl daemon-reexec
ok "it runs no more" not systemctl start old.service
ok "it died of SIGSYS" test "$(systemctl show -P ExecMainStatus old.service)" = 31
ok "the manager's file and line are named" within 20 answers '.units[0].denials | length == 1 and (.[0] | .arch == "i386"
    and .call == "write" and .cause.kind == "unit" and .attribution.confidence == "certain"
    and ([.cause.directives[] | .directive, .file, .line] == ["SystemCallArchitectures", "'$conf'", 3]))' old.service
ok "and that no setting of the unit helps" says "no setting of the unit can override this" harden-why old.service
ok "so nothing is applied" not harden-why apply --yes old.service
ok "the daemon itself lives under it" harden-why status
finish
