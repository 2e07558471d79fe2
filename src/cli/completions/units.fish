
# The units of the system's and the user's manager, or of the one that the command line names.
function __harden_why_units
    set -l managers (string match -- --system (commandline -opc); string match -- --user (commandline -opc))
    set -q managers[1]; or set managers --system --user
    for manager in $managers
        begin
            systemctl $manager @list@
            systemctl $manager @files@
        end 2>/dev/null | string replace -r ' .*' ''
    end
end
complete -c harden-why -n __fish_harden_why_needs_command -f -a "(__harden_why_units)"
complete -c harden-why -n "__fish_harden_why_using_subcommand @verbs_of_units@" -f -a "(__harden_why_units)"
