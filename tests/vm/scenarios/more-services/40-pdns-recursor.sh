# pdns-recursor: a name server in C++, with Type=notify and a control socket.
. "$PAYLOAD/guest/tighten.sh"
installed pdns-recursor
works() { says "^pong" rec_control ping; }
tighten pdns-recursor.service works
finish
