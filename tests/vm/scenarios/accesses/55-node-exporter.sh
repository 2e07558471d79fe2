# prometheus-node-exporter, in Go: it reads files of the kernel in /proc.
. "$PAYLOAD/guest/withhold.sh"
works() { says "^node_load1 " port 9100 "GET /metrics HTTP/1.0" ""; }
withhold prometheus-node-exporter.service works ProcSubset ProcSubset=pid
finish
