# inspircd: a server in C++ that loads its modules while it runs: no import shows what they call.
. "$PAYLOAD/guest/tighten.sh"
installed inspircd
works() { says "NOTICE" port 6667 "NICK tester" "USER tester 0 * :tester" "QUIT"; }
tighten inspircd.service works
finish
