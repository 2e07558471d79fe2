# caddy: a web server in Go, with Type=notify.
. "$PAYLOAD/guest/tighten.sh"
installed caddy
works() { says "^HTTP/1.[01] [0-9]{3}" port 80 "GET / HTTP/1.0" "Host: localhost" ""; }
tighten caddy.service works
finish
