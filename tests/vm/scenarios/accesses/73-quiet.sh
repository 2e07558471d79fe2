# Servers that work: a page by a script, a page, a saved database, an answered question, metrics.
. "$PAYLOAD/guest/quiet.sh"
. "$PAYLOAD/guest/dns.sh"
a2enmod -q cgid
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\nhello\\n"\n' >/usr/lib/cgi-bin/hello
chmod 755 /usr/lib/cgi-bin/hello
script() { says "^hello" port 80 "GET /cgi-bin/hello HTTP/1.0" ""; }
quiet apache2.service script ProtectHome=yes NoNewPrivileges=yes
quiet nginx.service serves ProtectHome=yes NoNewPrivileges=yes
saves() { says "^OK" redis-cli save; }
quiet redis-server.service saves
resolves() { asks localhost 127.0.0.1; }
quiet unbound.service resolves ProtectHome=yes
metrics() { says "^node_load1 " port 9100 "GET /metrics HTTP/1.0" ""; }
# It reads the clock by adjtimex(2).
quiet prometheus-node-exporter.service metrics ProtectClock=no ProtectHome=yes NoNewPrivileges=yes
finish
