//! Completions for the shells: what clap generates, and the names of units where a word can be one.

use crate::cli::args::{Cli, CompletedShell};
use crate::cli::exit_status::ExitStatus;
use clap::{Arg, Command, CommandFactory as _, ValueHint};
use clap_complete::Shell;
use std::io;
use std::io::Write as _;

/// How every shell lists the units that can have denials.
const LIST: &str = "list-units --all --full --plain --no-legend --no-pager --type=service,socket,mount,swap,scope";

/// How every shell lists the units with denials, one a row with its name first. A row names its unit in columns alone
/// if there is room for them.
const DENIED: &str = "COLUMNS=1000 harden-why --no-legend --quiet --no-pager --color=never";

/// How every shell lists the numbers of a unit's remedies with their titles.
const REMEDIES: &str = "harden-why --quiet --no-pager --color=never list-remedies";

/// How every shell lists the units that are not loaded.
const FILES: &str = "list-unit-files --full --no-legend --no-pager --type=service,socket,mount,swap";

/// Stands for units until the generated text is available, since clap has no hint for them. No argument is a host.
const UNITS: ValueHint = ValueHint::Hostname;

/// Prints the completions of harden-why for a shell.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(shell: CompletedShell) -> anyhow::Result<ExitStatus> {
    let [bash, zsh, fish] = generate("harden-why", &Cli::command())?;
    let text = match shell {
        CompletedShell::Bash => bash,
        CompletedShell::Zsh => zsh,
        CompletedShell::Fish => fish,
    };
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitStatus::Done)
}

/// Generates the completions of a program for bash, zsh and fish.
///
/// # Errors
/// Never, as long as memory can be written.
pub fn generate(name: &'static str, program: &Command) -> io::Result<[String; 3]> {
    let program = hinted(without_hidden(name, program));
    let generated = |shell: Shell| {
        let mut content = Vec::new();
        clap_complete::generate(shell, &mut program.clone(), name, &mut content);
        String::from_utf8(content).map_err(io::Error::other)
    };
    let (mut bash, mut zsh, mut fish) = (generated(Shell::Bash)?, generated(Shell::Zsh)?, generated(Shell::Fish)?);
    if program.has_subcommands() {
        // The loop that finds the verb and the arms for each verb spell a name with a hyphen differently, so that none
        // is ever reached: https://github.com/clap-rs/clap/issues/6421
        bash = bash.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
        bash += &filled(include_str!("completions/units.bash"), &program, "|");
        zsh = with_remedies(&of_verbs(&zsh)).replace("_hosts", "_harden_why_units");
        zsh = zsh.replace("\nif [", &filled(include_str!("completions/units.zsh"), &program, "|"));
        fish += &filled(include_str!("completions/units.fish"), &program, " ");
    }
    Ok([bash, zsh, fish])
}

/// The zsh completion, with a verb or a unit as the first word. clap puts the verb after an optional unit, so that
/// a verb would be completed as a unit.
fn of_verbs(zsh: &str) -> String {
    let lines: Vec<&str> = zsh.lines().filter(|line| !line.starts_with("'::units -- ")).collect();
    let text = lines.join("\n") + "\n";
    text.replace("$line[2]", "$line[1]").replace("\":: :_harden-why_commands\"", "\":: :_harden_why_verbs_and_units\"")
}

/// The zsh completion, with the remedies as values of `--remedy`. After `*::` and a first unit, zsh would complete units
/// as the values of options.
fn with_remedies(zsh: &str) -> String {
    let zsh = zsh.replace("\n'*::", "\n'*:");
    let complete = |line: &str| match line.strip_suffix(":N:' \\") {
        Some(option) if option.starts_with("'--remedy=") => format!("{option}:N:_harden_why_remedies' \\\n"),
        _ => format!("{line}\n"),
    };
    zsh.lines().map(complete).collect()
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
        let long = options.iter().filter_map(|option| option.get_long()).map(|long| format!("--{long}"));
        let short = options.iter().filter_map(|option| option.get_short()).map(|short| format!("-{short}"));
        let mut names: Vec<String> = long.chain(short).collect();
        names.sort_unstable();
        names.dedup();
        names.join(separator)
    };
    let verbs: Vec<&str> = verbs().map(Command::get_name).chain(["help"]).collect();
    script
        .replace("@denied@", DENIED)
        .replace("@remedies@", REMEDIES)
        .replace("@list@", LIST)
        .replace("@files@", FILES)
        .replace("@verbs@", &verbs.join(separator))
        .replace("@verbs_of_units@", &of_units.map(Command::get_name).collect::<Vec<_>>().join(separator))
        .replace("@options_of_units@", &names(&units))
        .replace("@options_of_others@", &names(&others))
        .replace("@generated@", &format!("_{}", program.get_name().replace('-', "__")))
}
