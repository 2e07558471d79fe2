
# The function above knows no units; this one adds them where a word can be one.
_harden_why_and_units() {
    local cur=$2 prev=$3 word verb='' name
    local -a managers=()
    # bash passes '--option=value' as three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    @generated@ "$1" "$cur" "$prev"
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            --system | --user) managers+=("$word") ;;
            @verbs@) verb=${verb:-$word} ;;
        esac
    done
    if [[ $prev == --remedy ]]; then
        _harden_why_remedies
        return 0
    fi
    case $prev in
        @options_of_units@) ;;
        @options_of_others@) return 0 ;;
        *)
            [[ $cur == -* ]] && return 0
            case $verb in
                @verbs_of_units@) ;;
                # For an empty word, the verbs are enough.
                '') [[ $cur || $COMP_CWORD -gt 1 ]] || return 0 ;;
                *) return 0 ;;
            esac
            ;;
    esac
    [[ $verb ]] && COMPREPLY=()
    # Files are no units.
    compopt +o bashdefault +o default
    [[ ${managers[*]} ]] || managers=(--system --user)
    while read -r name _; do
        # Of the characters in a name, only the backslash means something to the shell.
        [[ $name == "$cur"* ]] && COMPREPLY+=("${name//\\/\\\\}")
    done < <({
        # The units with denials come first.
        for word in "${managers[@]}"; do
            @denied@ "$word" | grep '^[^ ]*[.]'
        done
        for word in "${managers[@]}"; do
            systemctl "$word" @list@
            systemctl "$word" @files@
        done
    } 2>/dev/null | awk '!seen[$1]++')
    return 0
}

# The numbers of the remedies of the first unit after the verb.
_harden_why_remedies() {
    local word before='' found='' unit='' number
    for word in "${COMP_WORDS[@]:1}"; do
        case $before in
            @options_of_others@ | =) ;;
            *)
                if [[ ! $found ]]; then
                    [[ $word == apply ]] && found=1
                elif [[ $word && $word != [-=]* && ! $unit ]]; then
                    unit=$word
                fi
                ;;
        esac
        before=$word
    done
    COMPREPLY=()
    [[ $unit ]] || return 0
    (( ${#managers[@]} == 1 )) || managers=()
    while IFS=$'\t' read -r number _; do
        [[ $number == "$cur"* ]] && COMPREPLY+=("$number")
    done < <(@remedies@ "${managers[@]}" -- "$unit" 2>/dev/null)
}

if [[ ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 || ${BASH_VERSINFO[0]} -gt 4 ]]; then
    complete -F _harden_why_and_units -o nosort -o bashdefault -o default harden-why
else
    complete -F _harden_why_and_units -o bashdefault -o default harden-why
fi
