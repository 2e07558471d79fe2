# redis: groups that read well, without what a server on a socket needs.
. "$PAYLOAD/guest/heal.sh"
works() { [[ $(redis-cli set answer 42) == OK && $(redis-cli get answer) == 42 ]]; }
heal redis-server.service works "SystemCallFilter=@basic-io @file-system @io-event @signal @process" <<'CONF'
[Service]
SystemCallArchitectures=native
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallFilter=
SystemCallFilter=@basic-io @file-system @io-event @signal @process
CONF
finish
