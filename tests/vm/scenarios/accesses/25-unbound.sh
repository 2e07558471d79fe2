# unbound: a resolver without its control socket, and one that may not ask another server.
. "$PAYLOAD/guest/withhold.sh"
. "$PAYLOAD/guest/dns.sh"
cat >/etc/unbound/unbound.conf.d/forward.conf <<'CONF'
server:
    do-not-query-localhost: no
    domain-insecure: "x.example"
forward-zone:
    name: "x.example"
    forward-addr: 127.0.0.2@5300
CONF
# It answers every question with 192.0.2.1.
python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.2", 5300))
while True:
    question, asker = s.recvfrom(512)
    end = 12 + question[12:].index(0) + 5
    s.sendto(question[:2] + b"\x84\0\0\1\0\1\0\0\0\0" + question[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1", asker)
' &
server=$!
forwards() { asks a.x.example 192.0.2.1; }
withhold unbound.service forwards RestrictAddressFamilies TimeoutStartSec=15 "RestrictAddressFamilies=AF_INET AF_INET6"
withhold unbound.service forwards IPAddressDeny IPAddressDeny=127.0.0.2
kill "$server"
finish
