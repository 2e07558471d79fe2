
# The managers that the command line names, or both.
function __harden_why_managers
    set -l managers (string match -- --system (commandline -opc); string match -- --user (commandline -opc))
    set -q managers[1]; or set managers --system --user
    printf '%s\n' $managers
end

# The units of the system's and the user's manager, or of the one that the command line names. Those with denials come
# first.
function __harden_why_units
    set -l managers (__harden_why_managers)
    set -l denied
    for manager in $managers
        set -a denied (@denied@ $manager 2>/dev/null | string match -r '^[^ ]*[.][^ ]*')
    end
    set -q denied[1]; and printf '%s\tdenied calls\n' $denied
    for manager in $managers
        begin
            systemctl $manager @list@
            systemctl $manager @files@
        end 2>/dev/null | string replace -r ' .*' '' | while read -l unit
            contains -- $unit $denied; or echo $unit
        end
    end
end

# The remedies of the first unit after the verb, with their titles.
function __harden_why_remedies
    set -l managers (__harden_why_managers)
    test (count $managers) -eq 1; or set managers
    set -l verb ''
    set -l unit ''
    set -l before ''
    for word in (commandline -o)[2..]
        if test -z "$verb"
            contains -- $word @verbs@; and set verb $word
        else if test -z "$unit" -a -n "$word"; and not string match -q -- '-*' $word; and not contains -- $before @options_of_others@
            set unit $word
        end
        set before $word
    end
    test -n "$unit"; and @remedies@ $managers -- $unit 2>/dev/null
end

complete -c harden-why -k -n __fish_harden_why_needs_command -f -a "(__harden_why_units)"
complete -c harden-why -k -n "__fish_harden_why_using_subcommand @verbs_of_units@" -f -a "(__harden_why_units)"
complete -c harden-why -k -n "__fish_harden_why_using_subcommand apply" -l remedy -r -f -a "(__harden_why_remedies)"
