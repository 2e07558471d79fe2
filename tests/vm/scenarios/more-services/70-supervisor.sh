# supervisor: a service in Python, which a socket controls.
. "$PAYLOAD/guest/tighten.sh"
installed supervisor
works() { says "^[0-9]+$" supervisorctl pid; }
tighten supervisor.service works
finish
