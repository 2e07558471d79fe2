# gearmand: a job server in C++ with threads.
. "$PAYLOAD/guest/tighten.sh"
installed gearman-job-server
works() { says "^OK [0-9]" port 4730 version; }
tighten gearman-job-server.service works
finish
