# delivers: a mail handed in on the machine's port 25 arrives in the mailbox of user.
delivers() {
    local mark=$RANDOM$RANDOM
    perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new("127.0.0.1:25") or exit 1;
        alarm 10;
        sub say250 { print $s "$_[0]\r\n" if defined $_[0]; my $l; do { $l = <$s> // exit 1 } while $l =~ /^\d{3}-/; $l =~ /^[23]/ or die $l }
        say250(undef); say250("EHLO localhost"); say250("MAIL FROM:<user\@localhost>"); say250("RCPT TO:<user\@localhost>");
        say250("DATA"); say250("Subject: $ARGV[0]\r\n\r\nHello.\r\n."); say250("QUIT")' "$mark" || return 1
    within 10 grep -q "$mark" /var/mail/user
}
