# openntpd: a daemon of several processes, which drop root and change their root directory.
. "$PAYLOAD/guest/tighten.sh"
installed openntpd
works() { says "peers|clock" ntpctl -s status; }
tighten openntpd.service works
finish
