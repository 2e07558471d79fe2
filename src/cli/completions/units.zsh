
# The units of the system's and the user's manager, or of the one that the command line names.
_harden_why_units() {
    local manager
    local -a managers units
    # zsh cuts off the words before the verb here.
    managers=(${(M)${(z)BUFFER}:#--(system|user)})
    (( $#managers )) || managers=(--system --user)
    for manager in $managers; do
        units+=(${${(f)"$(systemctl $manager @list@ 2>/dev/null)"}%% *})
        units+=(${${(f)"$(systemctl $manager @files@ 2>/dev/null)"}%% *})
    done
    compadd -a units
}

_harden_why_verbs_and_units() {
    _alternative 'commands:command:_harden-why_commands' 'units:unit:_harden_why_units'
}

if [