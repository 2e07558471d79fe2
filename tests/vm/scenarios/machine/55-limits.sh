# Storms, a stop, and the limits of the shipped unit: the daemon reports each denial, and comes back after a limit ends it.
. "$PAYLOAD/guest/lib.sh"

for name in forks cgroups stopped descriptors memory; do victim $name; done
unit fork-storm.service <<'UNIT'
[Service]
ExecStart=/usr/bin/perl -e "while (1) { unless (fork) { exit } wait }"
UNIT
systemctl daemon-reload
pid=$(systemctl show -P MainPID harden-whyd)
same() { test "$(systemctl show -P MainPID harden-whyd)" = "$pid"; }

systemctl start fork-storm
systemctl start forks.service
ok "a denial during a storm of forks is told" within 30 denied forks
ok "with its alert" within 30 alerted forks
systemctl stop fork-storm

# Each lives for a moment.
storm_of_cgroups() {
    perl -e 'my $all = "/sys/fs/cgroup/system.slice/storm%d.service";
        for my $n (1 .. 3000) { mkdir sprintf($all, $n); rmdir sprintf($all, $n - 100) if $n > 100 }'
}
storm_of_cgroups &
storm=$!
systemctl start cgroups.service
ok "a denial during a storm of cgroups is told" within 30 denied cgroups
wait $storm
rmdir /sys/fs/cgroup/system.slice/storm*.service 2>/dev/null

systemctl kill -s STOP harden-whyd
systemctl start stopped.service
sleep 3
systemctl kill -s CONT harden-whyd
ok "a denial during a stop of the daemon is told after it" within 20 denied stopped

# The kernel gives the lowest free number, so the limit is there. A journal that the daemon reads takes numbers for a while.
sleep 4
most=0
while [[ -L /proc/$pid/fd/$most ]]; do most=$((most + 1)); done
prlimit --pid "$pid" --nofile="$most:8192"
ok "without free descriptors the answer says so" says "Too many open files" harden-why --json descriptors
# The daemon looks for the unit of a record for three seconds.
systemctl start descriptors.service
sleep 1
prlimit --pid "$pid" --nofile=8192:8192
ok "with descriptors again, the denial is told" within 20 denied descriptors
ok "the daemon ran all the time" same

ok "a second daemon does not take the store" says "in use by another harden-whyd" timeout 20 harden-whyd

systemctl set-property --runtime harden-whyd.service MemoryMax=1M
systemctl start memory.service
sleep 8
systemctl set-property --runtime harden-whyd.service MemoryMax=512M
ok "after its memory ran out, the daemon is back" within 60 harden-why status
ok "and tells the denial" within 30 denied memory
ok "and has forgotten nothing" denied forks
finish
