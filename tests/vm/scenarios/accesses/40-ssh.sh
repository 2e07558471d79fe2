# ssh: a login needs the keys in the user's home directory.
. "$PAYLOAD/guest/withhold.sh"
. "$PAYLOAD/guest/login.sh"
works() { login true; }
withhold ssh.service works ProtectHome ProtectHome=yes
finish
