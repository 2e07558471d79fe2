# vsftpd: a server whose files are out of reach, and one without rights in the host's user namespace.
. "$PAYLOAD/guest/withhold.sh"
installed vsftpd
sed -i 's/^anonymous_enable=.*/anonymous_enable=YES/' /etc/vsftpd.conf
works() { says "^230 " port 21 "USER anonymous" "PASS x" QUIT; }
withhold vsftpd.service works InaccessiblePaths InaccessiblePaths=/srv
withhold vsftpd.service works PrivateUsers PrivateUsers=yes
finish
