# nginx: a web server without the right to use its port, and without its port.
. "$PAYLOAD/guest/withhold.sh"
withhold nginx.service serves CapabilityBoundingSet \
    "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_SETGID CAP_SETUID"

# Debian 12 builds systemd without it.
if systemctl --version | grep -q +BPF_FRAMEWORK; then
    echo 'server { listen 8080; location / { return 200 "hello"; } }' >/etc/nginx/conf.d/another.conf
    serves_another() { says "^HTTP/1.1 200" port 8080 "GET / HTTP/1.0" ""; }
    withhold nginx.service serves_another SocketBindDeny SocketBindAllow=tcp:80 SocketBindDeny=any
    rm /etc/nginx/conf.d/another.conf
fi
finish
