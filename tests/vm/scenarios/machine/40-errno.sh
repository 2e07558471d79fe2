# Each directive that answers with an error, once the manager logs such denials.
. "$PAYLOAD/guest/lib.sh"

# Directive, the call that it refuses, and the call for perl's syscall: numbers of x86_64.
attempts() {
    cat <<'EOT'
ProtectHostname=yes|sethostname|170, my $name = "harden", 6
RestrictAddressFamilies=AF_UNIX|socket|41, 2, 1, 0
RestrictRealtime=yes|sched_setscheduler|144, 0, 1, my $priority = pack("i", 1)
RestrictSUIDSGID=yes|chmod|90, my $path = "/run/of-no-one", 04755
RestrictNamespaces=yes|unshare|272, 0x04000000
ProtectKernelModules=yes|delete_module|176, my $module = "harden", 0
ProtectKernelLogs=yes|syslog|103, 9, 0, 0
ProtectClock=yes|clock_settime|227, 0, 0
PrivateDevices=yes|iopl|172, 0
LockPersonality=yes|personality|135, 8
SystemCallFilter=~acct:EACCES|acct|163, 0
SystemCallErrorNumber=EPERM|acct|163, 0
EOT
    # Since 254 on a kernel from 6.3, this directive is no seccomp filter and leaves no record.
    if (($(systemctl --version | awk 'NR == 1 { print $2 }') < 254)); then
        echo 'MemoryDenyWriteExecute=yes|mmap|9, 0, 4096, 7, 0x22, -1, 0'
    fi
}

names=()
while IFS='|' read -r setting call deed; do
    directive=${setting%%=*}
    name=refused-$directive.service
    names+=("$name")
    more=
    if [[ $directive == SystemCallErrorNumber ]]; then more=SystemCallFilter=~acct; fi
    unit "$name" <<UNIT
[Service]
Type=oneshot
$setting
$more
ExecStart=/usr/bin/perl /run/$name.pl
UNIT
    printf 'exit(syscall(%s) == -1 ? 0 : 1);\n' "$deed" >"/run/$name.pl"
done < <(attempts)
systemctl daemon-reload

ok "a program that is refused goes on" systemctl start "${names[@]}"
sleep 2
ok "without the manager's word the kernel does not tell" exits 0 harden-why --exit-code refused-ProtectHostname.service
ok "and harden-why says that it would not know" says "harden-why log-refusals refused-ProtectHostname.service" harden-why refused-ProtectHostname.service

mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=1\n' >/etc/systemd/system.conf.d/log-seccomp.conf
systemctl daemon-reload
systemctl start "${names[@]}"
all=/run/refused.json
told() {
    harden-why --json "${names[@]}" >$all
    [[ $(jq '[.units[] | select(.denials | length > 0)] | length' <$all) == "${#names[@]}" ]] && return
    jq -c '.units[] | [.unit, .denials[].call]' <$all
    return 1
}
ok "with it the kernel tells all" within 20 told
named() {
    jq '.units[] | select(.unit == "'"$unit"'")' <$all
    jq -e '.units[] | select(.unit == "'"$unit"'") | .denials | any(.call == "'"$call"'"
        and .action == "errno" and (.cause.kind | IN("unit", "possibly-unit"))
        and ([.cause.directives[] | .directive, .file, .line]
            == ["'"$told"'", "/etc/systemd/system/'"$unit"'", '"$line"']))' <$all >/dev/null
}
while IFS='|' read -r setting call deed; do
    directive=${setting%%=*}
    unit=refused-$directive.service
    told=$directive
    # The number is a part of SystemCallFilter='s effect.
    if [[ $directive == SystemCallErrorNumber ]]; then told=SystemCallFilter; fi
    line=$(grep -n "^$told=" "/etc/systemd/system/$unit" | cut -d: -f1)
    ok "$setting refuses $call, and is named" named
done < <(attempts)

# Its program ends with 1 where the call is allowed, so the restart fails.
ok "apply loosens a directive" says '^Written' harden-why apply --yes --restart refused-ProtectHostname.service
ok "and the call goes through" says "^ProtectHostname=no" systemctl show -p ProtectHostname refused-ProtectHostname.service

printf '[Manager]\nManagerEnvironment=SYSTEMD_LOG_SECCOMP=0\n' >/etc/systemd/system.conf.d/log-seccomp.conf
systemctl daemon-reload
finish
