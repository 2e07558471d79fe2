# Which callers get which answers from the daemon, on the machine's own bus, from the UIDs of five users.
. "$PAYLOAD/guest/lib.sh"

# A denial of a system unit, one of a user's unit, one of another user's.
victim denied
systemctl daemon-reload
systemctl start denied.service
for who in user other; do
    loginctl enable-linger $who
    ok "$who has a manager" within 60 as $who systemctl --user is-active basic.target
    directory=/home/$who/.config/systemd/user
    as $who mkdir -p "$directory"
    printf '[Service]\nExecStart=/usr/bin/perl -e "syscall 163, 0"\nSystemCallFilter=~acct\n' |
        as $who tee "$directory/denied.service" >/dev/null
    as $who systemctl --user daemon-reload
    as $who systemctl --user start denied.service
done

call() {
    runuser -u "$1" -- busctl --json=short call org.hardenwhy1 /org/hardenwhy1 org.hardenwhy1.Manager "${@:2}"
}
managers() { call "$1" ListIncidents ssxuu denied.service "" 0 0 100 | jq -r '[.data[0][].Manager.data] | sort | join(" ")'; }
sees() { [[ $(managers "$1" | tee /dev/stderr) == "$2" ]]; }

ok "root sees all" within 20 sees root "system user:1000 user:1001"
ok "so does a member of adm" sees reader "system user:1000 user:1001"
usermod -a -G systemd-journal nobody
ok "so does a member of systemd-journal" sees nobody "system user:1000 user:1001"
ok "a user sees the incidents of the own manager" sees user "user:1000"
ok "and so does the next one" sees other "user:1001"
ok "daemon has none of its own" sees daemon ""
ok "asking for the machine's is refused by name" says "AccessDenied|only root and members" \
    call user ListIncidents ssxuu "" system 0 0 100
ok "so is asking for another user's" says "AccessDenied|only root and members" \
    call user ListIncidents ssxuu "" user:1001 0 0 100
ok "everybody may ask how it is" call daemon ListUnits x 0
ok "nobody else owns the name" says "not allowed|AccessDenied" \
    runuser -u user -- dbus-send --system --print-reply --dest=org.freedesktop.DBus / \
    org.freedesktop.DBus.RequestName string:org.hardenwhy1 uint32:0
ok "the store is root's alone" not runuser -u user -- ls /var/lib/harden-why
ok "harden-why tells a user only of own units" says "^denied.service.*1000|user manager" as user harden-why denied.service
ok "and not of the machine's" exits 3 as user harden-why --system denied.service
finish
