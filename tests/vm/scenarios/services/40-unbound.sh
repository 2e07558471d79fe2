# unbound: a resolver that may not change its user.
. "$PAYLOAD/guest/heal.sh"
works() {
    perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "127.0.0.1:53") or exit 1;
        $s->send(pack("n6", 1, 0x100, 1, 0, 0, 0) . "\x09localhost\0" . pack("n2", 1, 1)) or exit 1;
        alarm 3;
        $s->recv(my $answer, 512) // exit 1;
        exit(substr($answer, -4) eq "\x7f\0\0\1" ? 0 : 1);'
}
heal unbound.service works MemoryDenyWriteExecute=yes ProtectClock=yes ProtectHome=yes ProtectHostname=yes \
    ProtectKernelLogs=yes "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK" \
    "SystemCallFilter=@system-service chroot" "SystemCallFilter=~@setuid"
finish
