# redis: plausible groups that lack the calls of a server on a socket.
. "$PAYLOAD/guest/heal.sh"
works() { [[ $(redis-cli set answer 42) == OK && $(redis-cli get answer) == 42 ]]; }
heal redis-server.service works MemoryDenyWriteExecute=yes RestrictSUIDSGID=yes SystemCallFilter= \
    "SystemCallFilter=@basic-io @file-system @io-event @signal @process"
finish
