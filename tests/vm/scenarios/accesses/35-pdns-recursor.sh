# pdns-recursor: LuaJIT makes memory executable for a script that is busy.
. "$PAYLOAD/guest/withhold.sh"
. "$PAYLOAD/guest/dns.sh"
installed pdns-recursor
cat >/etc/powerdns/hello.lua <<'LUA'
function preresolve(question)
    local n = 0
    for i = 1, 10000 do n = n + i % 7 end
    question:addAnswer(pdns.A, "192.0.2.1")
    return true
end
LUA
if [[ -d /etc/powerdns/recursor.d ]]; then
    printf 'recursor:\n  lua_dns_script: /etc/powerdns/hello.lua\n' >/etc/powerdns/recursor.d/hello.yml
    grep -q '^[a-z-]*=' /etc/powerdns/recursor.conf &&
        echo lua-dns-script=/etc/powerdns/hello.lua >/etc/powerdns/recursor.d/hello.conf
fi
answers_by_script() { asks x.example 192.0.2.1; }
withhold pdns-recursor.service answers_by_script MemoryDenyWriteExecute MemoryDenyWriteExecute=yes
finish
