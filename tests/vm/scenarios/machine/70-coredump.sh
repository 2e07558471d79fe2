# With systemd-coredump a dying process stays longer, and another process takes its core.
. "$PAYLOAD/guest/lib.sh"

ok "there is no systemd-coredump at first" not dpkg -s systemd-coredump
victim no-core
victim core
systemctl daemon-reload
systemctl start no-core.service
ok "a denial without it" within 20 denied no-core

ok "it is installed, with the library that reads stacks" apt-get -q -y install \
    "$PAYLOAD_DEBS"/{systemd-coredump,elfutils}/*.deb
ok "and takes cores" says systemd-coredump sysctl kernel.core_pattern
systemctl start core.service
ok "a denial with it" within 30 denied core
ok "its alert" within 20 alerted core
ok "the core is there" within 30 coredumpctl --no-pager info /usr/bin/perl
ok "the answer has the callers that its stack shows" within 20 answers \
    '.units[0].denials | any(.call_site.further_callers | length > 0)' core.service
# While the last process still dumps its core, a start would have no effect.
over() { [[ $(systemctl show -P ActiveState core.service) == failed ]]; }
for _ in 1 2 3; do
    within 30 over
    systemctl reset-failed core.service
    systemctl start core.service
done
ok "each is counted" within 30 denied core 4
ok "and none is told of the helper" exits 0 harden-why --exit-code systemd-coredump@0.service
finish
