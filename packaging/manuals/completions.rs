//! Completions for the shells: what clap generates, and the names of units where a word can be one.

use super::{File, utf8};
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use std::io;

/// How every shell lists the units that can have denials.
const LIST: &str = "list-units --all --full --plain --no-legend --no-pager --type=service,socket,mount,swap,scope";

/// Stands for units until the generated text is available, since clap has no hint for them. No argument is a host.
const UNITS: ValueHint = ValueHint::Hostname;

/// The completions of a program for every shell.
///
/// # Errors
/// Never, as long as memory can be written.
pub(super) fn files(name: &'static str, program: &Command) -> io::Result<[File; 3]> {
    let program = hinted(without_hidden(name, program));
    let generated = |shell: Shell| {
        let mut content = Vec::new();
        clap_complete::generate(shell, &mut program.clone(), name, &mut content);
        utf8(content)
    };
    let (mut bash, mut zsh, mut fish) = (generated(Shell::Bash)?, generated(Shell::Zsh)?, generated(Shell::Fish)?);
    if program.has_subcommands() {
        // The loop that finds the verb and the arms for each verb spell a name with a hyphen differently, so that none
        // is ever reached: https://github.com/clap-rs/clap/issues/6421
        bash = bash.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
        bash += &filled(include_str!("units.bash"), &program, "|");
        zsh = of_verbs(&zsh).replace("_hosts", "_harden_why_units");
        zsh = zsh.replace("\nif [", &filled(include_str!("units.zsh"), &program, "|"));
        fish += &filled(include_str!("units.fish"), &program, " ");
    }
    Ok([
        File { path: format!("bash/{name}"), content: bash },
        File { path: format!("zsh/_{name}"), content: zsh },
        File { path: format!("fish/{name}.fish"), content: fish },
    ])
}

/// The zsh completion, with a verb or a unit as the first word. clap puts the verb after an optional unit, so that
/// a verb would be completed as a unit.
fn of_verbs(zsh: &str) -> String {
    let lines: Vec<&str> = zsh.lines().filter(|line| !line.starts_with("'::units -- ")).collect();
    let text = lines.join("\n") + "\n";
    text.replace("$line[2]", "$line[1]").replace("\":: :_harden-why_commands\"", "\":: :_harden_why_verbs_and_units\"")
}

/// The program without the verbs that are not for people.
fn without_hidden(name: &'static str, program: &Command) -> Command {
    let shown: Vec<Command> = program.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    let mut bare = Command::new(name).args(program.get_arguments().cloned());
    if let Some(about) = program.get_about() {
        bare = bare.about(about.clone());
    }
    bare.version(env!("CARGO_PKG_VERSION")).subcommands(shown)
}

/// The program with the help of its arguments on their values.
fn hinted(program: Command) -> Command {
    let hint = |argument: Arg| {
        let hint = match value(&argument) {
            "DIR" => ValueHint::DirPath,
            "FILE" => ValueHint::FilePath,
            _ if is_unit(&argument) => UNITS,
            _ => ValueHint::Other,
        };
        if argument.get_action().takes_values() { argument.value_hint(hint) } else { argument }
    };
    program.mut_args(hint).mut_subcommands(|verb| verb.mut_args(hint))
}

/// The name of an argument's value.
fn value(argument: &Arg) -> &str {
    argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

fn is_unit(argument: &Arg) -> bool {
    value(argument).split('|').any(|word| word == "UNIT")
}

/// A script with its placeholders replaced.
fn filled(script: &str, program: &Command, separator: &str) -> String {
    let verbs = || program.get_subcommands();
    let of_units = verbs().filter(|verb| verb.get_positionals().any(is_unit));
    let options = verbs().chain([program]).flat_map(Command::get_arguments);
    // An argument that takes its value only after '=' is followed by another word.
    let (units, others): (Vec<&Arg>, Vec<&Arg>) = options
        .filter(|option| option.get_action().takes_values() && !option.is_require_equals_set())
        .filter(|option| option.get_long().is_some())
        .partition(|option| is_unit(option));
    let names = |options: &[&Arg]| {
        let mut names: Vec<String> =
            options.iter().filter_map(|option| option.get_long()).map(|long| format!("--{long}")).collect();
        names.sort_unstable();
        names.dedup();
        names.join(separator)
    };
    let verbs: Vec<&str> = verbs().map(Command::get_name).chain(["help"]).collect();
    script
        .replace("@list@", LIST)
        .replace("@verbs@", &verbs.join(separator))
        .replace("@verbs_of_units@", &of_units.map(Command::get_name).collect::<Vec<_>>().join(separator))
        .replace("@options_of_units@", &names(&units))
        .replace("@options_of_others@", &names(&others))
        .replace("@generated@", &format!("_{}", program.get_name().replace('-', "__")))
}
