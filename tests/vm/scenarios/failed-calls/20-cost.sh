# What it costs that the daemon watches failed calls: the time of the programs in the kernel, as a share of a processor, and the
# same load with and without them.
. "$PAYLOAD/guest/heal.sh"
mkdir -p /etc/harden-why/harden-why.conf.d
switch() {
    printf '[failed-calls]\nwatch = %s\n' "$1" >/etc/harden-why/harden-why.conf.d/cost.conf
    systemctl reload harden-whyd
    within 90 says "\"watches_calls\": ?$1" harden-why --json status >/dev/null
}
# Prints the nanoseconds and the runs of the programs at the ends of functions, since they were loaded. The daemon holds what
# attaches them; the kernel counts by program (BPF_PROG_GET_FD_BY_ID of bpf(2)).
spent() {
    perl -MPOSIX -e 'my ($ns, $runs) = (0, 0);
        sub text { open(my $file, "<", $_[0]) or return ""; local $/; <$file> // "" }
        for my $link (glob "/proc/$ARGV[0]/fdinfo/*") {
            my $text = text($link);
            $text =~ /^link_type:\s*tracing/m && $text =~ /^prog_id:\s*(\d+)/m or next;
            my $asked = pack("L3", $1, 0, 0);
            my $program = syscall(321, 13, $asked, 12);
            next if $program < 0;
            my $counts = text("/proc/self/fdinfo/$program");
            $ns += $1 if $counts =~ /^run_time_ns:\s*(\d+)/m;
            $runs += $1 if $counts =~ /^run_cnt:\s*(\d+)/m;
            POSIX::close($program) }
        print "$ns $runs\n"' "$(systemctl show -P MainPID harden-whyd)"
}
now() { date +%s%N; }

# forks SECONDS: processes that are started one after the other; prints how many in a second.
forks() {
    perl -e 'my ($for, $n) = ($ARGV[0], 0); my $end = time + $for;
        while (time < $end) { my $p = fork // die; if (!$p) { exec "/bin/true" } waitpid $p, 0; $n++ } print int($n / $for)' "$1"
}
# requests SECONDS: pages that nginx serves over kept connections; prints how many in a second.
requests() {
    perl -MIO::Socket::INET -e 'my ($for, $n) = ($ARGV[0], 0); my $end = time + $for; my $s;
        while (time < $end) { $s //= IO::Socket::INET->new("127.0.0.1:80") or die;
            print $s "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"; my ($l, $size, $r) = ("", 0);
            while (defined($l = <$s>) && $l ne "\r\n") { $size = $1 if $l =~ /^Content-Length: (\d+)/i }
            if (!defined $l) { undef $s; next } read $s, $r, $size; $n++ } print int($n / $for)' "$1"
}

# measure NAME LOAD: the load with and without the programs, in turns, and the share of a processor that they take.
measure() {
    local name=$1 load=$2 on=() off=() before after ns runs began ended
    for _ in 1 2 3; do
        switch false
        off+=("$("$load" 5)")
        switch true
        on+=("$("$load" 5)")
    done
    sysctl -q -w kernel.bpf_stats_enabled=1
    before=$(spent) began=$(now)
    rate=$("$load" 5)
    after=$(spent) ended=$(now)
    sysctl -q -w kernel.bpf_stats_enabled=0
    read -r ns runs < <(awk -v a="$before" -v b="$after" 'BEGIN { split(a, x, " "); split(b, y, " "); print y[1] - x[1], y[2] - x[2] }')
    note "$name: ${on[*]} per second with the programs, ${off[*]} without"
    note "$name: $runs runs of $((runs ? ns / runs : 0)) ns in $(((ended - began) / 1000000)) ms at $rate per second"
    share=$(awk -v ns="$ns" -v of=$((ended - began)) 'BEGIN { printf "%.3f", 100 * ns / of }')
    note "$name: $share % of a processor"
    ok "$name: the programs take at most 1 % of a processor" awk -v share="$share" 'BEGIN { exit !(share <= 1) }'
    ok "$name: they ran" test "$runs" -gt 0
}

ok "the daemon watches failed calls" switch true
measure "fork and exec" forks
systemctl start nginx
ok "nginx serves" within 30 serves
measure "nginx" requests
systemctl stop nginx
rm /etc/harden-why/harden-why.conf.d/cost.conf
systemctl reload harden-whyd
finish
