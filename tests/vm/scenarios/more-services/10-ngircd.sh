# ngircd: an IRC server in C that detaches itself (Type=forking).
. "$PAYLOAD/guest/tighten.sh"
installed ngircd
works() { says " 001 " port 6667 "NICK tester" "USER tester 0 * :tester" "QUIT"; }
tighten ngircd.service works
finish
