# Installs ssh with a key for user. login COMMAND...: what a user's shell prints after a real login, within $longest seconds.
installed openssh-server
afresh ssh.service
key=/home/user/.ssh/id
runuser -u user -- mkdir -p -m 700 /home/user/.ssh
runuser -u user -- ssh-keygen -q -t ed25519 -N '' -f "$key"
runuser -u user -- cp "$key.pub" /home/user/.ssh/authorized_keys
login() {
    timeout "${longest:-60}" runuser -u user -- ssh -n -i "$key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR user@127.0.0.1 "$@"
}
