# caddy, in Go: a web server of its own user, without the right to use its port.
. "$PAYLOAD/guest/withhold.sh"
installed caddy
works() { says "^HTTP/1.[01] [0-9]{3}" port 80 "GET / HTTP/1.0" "Host: localhost" ""; }
withhold caddy.service works User AmbientCapabilities=
finish
