# Lets the kernel and PID 1 judge the rows of tests/access_oracle.rs, with the installed package.
. "$PAYLOAD/guest/lib.sh"

# rows PART: a part of the rows, such as 1/4.
rows() {
    local module said
    # The rows ask for the nodes of these drivers. 313 is finit_module(2).
    for module in /opt/modules/*.ko; do
        [[ ! -e /sys/module/$(basename "$module" .ko) ]] || continue
        perl -e 'open(my $file, "<", $ARGV[0]) or die; syscall(313, fileno($file), my $none = "", 0) == 0 or die "$!"' "$module"
    done
    said=$(mktemp)
    ok "each directive is named, remedied and reverted" judge "$1" "$said"
    ok "the test did not skip" not grep -q '^skipped' "$said"
    note "$(grep -c 'named, remedied, reverted$' "$said") rows right"
    grep ': not checked: ' "$said" | sed 's/^/# /'
    rm "$said"
}

judge() {
    HARDEN_WHY_MANAGER=pid1 HARDEN_WHY_REQUIRE_KERNEL=1 HARDEN_WHY_PART="$1" "$PAYLOAD/access_oracle" --exact --nocapture \
        each_directive_is_named_and_its_remedy_works_until_it_is_reverted 2>&1 | tee "$2" | sed -u 's/^/# /' >/dev/ttyS1
    local code=${PIPESTATUS[0]}
    cat "$2"
    return "$code"
}
