# A storm of first sightings, while the disk of the store records each of its writes. The host's part (the program host
# in this folder) then cuts the power at random points of that record.
. "$PAYLOAD/guest/lib.sh"

disk=/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_power-loss
denial=08f099b23cdb4d1399f57dcd22ef4be3
sectors=$(blockdev --getsz "$disk")

systemctl stop harden-whyd.service harden-whyd.socket
ok "the store has a disk of its own" mount "$disk" /var/lib/harden-why
systemctl start harden-whyd.socket harden-whyd.service

# Each alert leaves its incident in a sector at the end of the disk. Direct writes pass no flush to the disk, so they do
# not make the store's own writes durable.
journalctl --follow --lines=0 -o json MESSAGE_ID=$denial | jq --unbuffered -r .HARDEN_WHY_INCIDENT | {
    told=0
    while read -r incident; do
        printf '%s\n' "alerted $incident" |
            dd of="$disk" bs=512 count=1 seek=$((sectors - 1024 + told)) conv=sync,notrunc oflag=direct status=none
        told=$((told + 1))
        printf '%s\n' "$told" >/run/told
    done
} &

# Each of 30 units makes 8 calls, one process a call, and is killed for each.
calls="163 169 165 166 167 168 170 171"
for ((i = 0; i < 30; i++)); do
    unit "storm$i.service" <<UNIT
[Service]
ExecStart=/usr/bin/perl -e "for my \$call (qw($calls)) { unless (fork) { syscall \$call, 0, 0, 0, 0, 0; exit } wait }"
SystemCallFilter=~acct reboot mount umount2 swapon swapoff sethostname setdomainname
UNIT
done
systemctl daemon-reload
for ((i = 0; i < 30; i++)); do systemctl start "storm$i.service"; done

all_told() { (($(cat /run/told) >= 30)); }
ok "each unit raises an alert" within 120 all_told
ok "the store holds all of it" within 60 answers '[.overview[].count] | add >= 240' --all
note "$(cat /run/told) alerts"
finish
