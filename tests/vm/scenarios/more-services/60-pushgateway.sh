# prometheus-pushgateway: a small server in Go.
. "$PAYLOAD/guest/tighten.sh"
installed prometheus-pushgateway
works() { says "^HTTP/1.[01] 200" port 9091 "GET /-/healthy HTTP/1.0" "Host: localhost" ""; }
tighten prometheus-pushgateway.service works
finish
