
# The managers that the command line names, or both.
_harden_why_managers() {
    # zsh cuts off the words before the verb here.
    managers=(${(M)${(z)BUFFER}:#--(system|user)})
    (( $#managers )) || managers=(--system --user)
}

# The units of the system's and the user's manager, or of the one that the command line names. Those with denials are
# a group of their own, which comes first.
_harden_why_units() {
    local manager
    local -a managers denied
    local -aU units
    _harden_why_managers
    for manager in $managers; do
        denied+=(${(M)${${(f)"$(@denied@ $manager 2>/dev/null)"}%% *}:#*.*})
        units+=(${${(f)"$(systemctl $manager @list@ 2>/dev/null)"}%% *})
        units+=(${${(f)"$(systemctl $manager @files@ 2>/dev/null)"}%% *})
    done
    # The first group of matches is the first that is added.
    compadd -V harden-why-denied -a denied
    units=(${units:|denied})
    compadd -V harden-why-units -a units
}

# The remedies of the first unit after the verb, with their titles.
_harden_why_remedies() {
    local word before='' unit=''
    local -a managers remedies numbers
    for word in ${words[2,-1]}; do
        if [[ -n $word && $word != -* && $before != (@options_of_others@) && -z $unit ]]; then
            unit=$word
        fi
        before=$word
    done
    [[ -n $unit ]] || return 1
    _harden_why_managers
    (( $#managers == 1 )) || managers=()
    remedies=(${(f)"$(@remedies@ $managers -- ${(Q)unit} 2>/dev/null)"})
    numbers=(${remedies%%$'\t'*})
    remedies=(${remedies//$'\t'/ -- })
    compadd -l -V harden-why-remedies -d remedies -a numbers
}

_harden_why_verbs_and_units() {
    _alternative 'commands:command:_harden-why_commands' 'units:unit:_harden_why_units'
}

if [