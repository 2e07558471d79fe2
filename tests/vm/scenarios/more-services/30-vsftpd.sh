# vsftpd: a server that starts a process for each connection.
. "$PAYLOAD/guest/tighten.sh"
installed vsftpd
works() { says "^220 " port 21 QUIT; }
tighten vsftpd.service works
finish
