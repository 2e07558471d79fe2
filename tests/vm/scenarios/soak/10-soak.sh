# A mixed load for HARDEN_WHY_SOAK_SECONDS (60 by default; an hour shows more), under the shipped units: memory and
# descriptors of the daemon stay flat from the first tenth to the last, and its counts equal those of a listener of its own.
. "$PAYLOAD/guest/lib.sh"

duration=$(cat "$PAYLOAD/soak-seconds" 2>/dev/null || echo 60)
counts=/run/soak-counts

# Counts the kernel's SECCOMP records (type 1326 of the audit group), until SIGTERM.
cat >/run/soak-listener <<'PERL'
socket(my $audit, 16, 3, 9) or die "socket: $!";
setsockopt($audit, 1, 33, pack("l", 256 << 20)) or die "receive buffer: $!";
bind($audit, pack("S S L L", 16, 0, 0, 1)) or die "bind: $!";
my ($records, $lost, $stop, $message) = (0, 0, 0);
$SIG{TERM} = sub { $stop = 1 };
my $ready = pack("l l", 1, 0);
until ($stop) {
    my $bits = ''; vec($bits, fileno($audit), 1) = 1;
    next unless select($bits, undef, undef, 1) > 0;
    unless (defined recv($audit, $message, 16384, 0)) { $lost++ if $!{ENOBUFS}; next }
    $records++ if unpack("x4 S", $message) == 1326;
}
print "$records $lost\n";
PERL

for ((i = 0; i < 10; i++)); do victim "soak-killed$i"; done
victim soak-refused SystemCallFilter=~acct SystemCallErrorNumber=EPERM
unit soak-chatty.service <<UNIT
[Service]
ExecStart=/usr/bin/perl -e "while (1) { syscall 163, 0; select undef, undef, undef, 0.01 }"
SystemCallLog=acct
UNIT
unit soak-forks.service <<UNIT
[Service]
ExecStart=/usr/bin/perl -e "while (1) { unless (fork) { exit } wait }"
CPUQuota=20%
UNIT
# A user's made-up call numbers under a filter of their own.
unit soak-noise@.service <<UNIT
[Service]
User=nobody
ExecStart=/usr/bin/perl -e "syscall 1000000 + int(rand 100000) for 1 .. 200"
SystemCallLog=~@known
CPUQuota=30%
UNIT
systemctl daemon-reload

systemctl stop harden-whyd.service harden-whyd.socket
perl /run/soak-listener >"$counts" &
listener=$!
sleep 1
systemctl start harden-whyd.socket harden-whyd.service
pid=$(systemctl show -P MainPID harden-whyd)
systemctl start soak-chatty soak-forks

memory() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status"; }
descriptors() { find "/proc/$pid/fd" -mindepth 1 | wc -l; }

first_memory=0 first_descriptors=0 last_memory=0 last_descriptors=0 tenth=$((duration / 10)) rounds=0
uptime
began=$up
said=$up
while uptime && ((up - began < duration)); do
    systemctl start "soak-killed$((rounds % 10)).service" "soak-noise@$((rounds % 7)).service" soak-refused.service
    harden-why "soak-killed$((rounds % 10))" >/dev/null 2>&1
    ((rounds % 60 != 59)) || systemctl daemon-reload
    now_memory=$(memory) now_descriptors=$(descriptors)
    if ((up - began < tenth)); then
        first_memory=$((now_memory > first_memory ? now_memory : first_memory))
        first_descriptors=$((now_descriptors > first_descriptors ? now_descriptors : first_descriptors))
    elif ((up - began >= duration - tenth)); then
        last_memory=$((now_memory > last_memory ? now_memory : last_memory))
        last_descriptors=$((now_descriptors > last_descriptors ? now_descriptors : last_descriptors))
    fi
    if ((up - said >= 60)); then
        note "$((up - began)) s: $now_memory kB, $now_descriptors descriptors, $rounds rounds"
        said=$up
    fi
    rounds=$((rounds + 1))
    sleep 0.5
done
systemctl stop soak-chatty soak-forks 'soak-noise@*' soak-refused 'soak-killed*'
sleep 5
kill "$listener"
wait "$listener"
read -r heard missed <"$counts"

same_process() { test "$(systemctl show -P MainPID harden-whyd)" = "$pid"; }
is_flat() { ((first_memory > 0 && last_memory > 0 && last_memory <= first_memory + 4096 && last_descriptors <= first_descriptors + 4)); }
counted() { says "^$heard\$" jq -r .counters.records <(harden-why --json status); }
note "$rounds rounds, $heard records; memory $first_memory to $last_memory kB, descriptors $first_descriptors to $last_descriptors"
ok "the daemon ran all the time" same_process
ok "memory and descriptors are flat" is_flat
ok "the listener lost nothing" test "$missed" = 0
ok "the daemon received what the listener received" within 30 counted
ok "and lost nothing" answers '.counters | .lost == 0 and .overruns == 0 and .dropped == 0' status
finish
