# redis: a database that may write nowhere.
. "$PAYLOAD/guest/withhold.sh"
# It would not stop before it has saved.
echo 'save ""' >>/etc/redis/redis.conf
works() { says "^OK" redis-cli save; }
withhold redis-server.service works ProtectSystem "ReadWritePaths=" ProtectSystem=strict
finish
