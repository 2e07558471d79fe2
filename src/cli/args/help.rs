//! The help of `harden-why`: verbs in groups, with an example each.

use super::Cli;
use super::common_options::COMMON;
use crate::cli::terminal::page;
use clap::{Arg, ArgAction, Command, CommandFactory as _};
use std::fmt::Write as _;

/// The verbs by group, each with examples. The empty name stands for `harden-why UNIT…`.
pub const GROUPS: [(&str, &[(&str, &str)]); 5] = [
    (
        "Look",
        &[
            ("", "harden-why\nharden-why nginx\nharden-why 'web*' --since -1h"),
            ("follow", "harden-why follow nginx"),
            ("check", "harden-why check nginx --with SystemCallFilter=~@privileged"),
            ("status", "harden-why status"),
        ],
    ),
    (
        "Fix",
        &[
            ("apply", "harden-why apply --restart nginx"),
            ("revert", "harden-why revert nginx"),
            ("bisect", "harden-why bisect --check ./works.sh nginx"),
            ("forget", "harden-why forget nginx"),
        ],
    ),
    (
        "Silent",
        &[
            ("rehearse", "harden-why rehearse --for 5min nginx"),
            ("tap", "harden-why tap --restart nginx"),
            ("log-refusals", "harden-why log-refusals --for 2h nginx"),
        ],
    ),
    (
        "Offline",
        &[
            ("explain", "harden-why explain /var/log/audit/audit.log\njournalctl -k | harden-why explain -"),
            ("syscall", "harden-why syscall openat"),
        ],
    ),
    (
        "Other",
        &[
            ("metrics", "harden-why metrics"),
            ("demo", "harden-why demo"),
            ("restore", "harden-why restore"),
            ("completions", "harden-why completions bash >~/.local/share/bash-completion/completions/harden-why"),
        ],
    ),
];

/// Where to read on.
const MORE: &str = "--help shows all options and examples, COMMAND --help those of a command.";

/// The column where the text about a verb begins.
const INDENT: usize = 23;

/// What a line of the help says where no verb is given.
const ANSWER: &str = "Show all denials, or why one of UNIT and the fix";

impl Cli {
    /// Returns the definition of the program with its help in groups.
    pub(crate) fn program() -> Command {
        let program = Self::command();
        let groups = describe_groups(&program);
        let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).global(true);
        let help = help.help("Print help; -h prints less");
        let version = Arg::new("version").short('V').long("version").action(ArgAction::Version).help("Print version");
        let examples = GROUPS.iter().flat_map(|(_, verbs)| *verbs).map(|(_, example)| *example);
        let examples: Vec<&str> = examples.take(8).collect();
        let more = textwrap::fill(MORE, page::columns());
        let mut program = program
            .mut_subcommands(|verb| verb.hide(true))
            .disable_help_flag(true)
            // As in systemctl: the last of several counts.
            .args_override_self(true)
            .disable_version_flag(true)
            .args([help, version])
            .mut_args(|arg| arg.hide_short_help(true))
            .override_usage("harden-why [OPTION]... [UNIT]...\n       harden-why COMMAND [OPTION]... [ARGUMENT]...")
            .help_template(format!(
                "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}{more}\n\n{{all-args}}{{after-help}}"
            ))
            .after_long_help(format!(
                "{}\n\nExit status: 0 answered or done, 1 failed, 2 usage, 3 no rights to see, 4 no such unit.\n\
                 With --exit-code, denials or a check that fails make 1.",
                describe_examples(&examples.join("\n"))
            ));
        let folded = fold_common_options(&program);
        let common: Vec<Arg> = program.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
        for (verb, example) in GROUPS.iter().flat_map(|(_, verbs)| *verbs).filter(|(verb, _)| !verb.is_empty()) {
            program = program.mut_subcommand(verb, |verb| {
                // Its own copies, since clap would give the verb copies that its help shows.
                let hidden = common.iter().map(|arg| arg.clone().hide(true));
                shorten_help(verb.args(hidden), &folded, example)
            });
        }
        program
    }
}

/// Returns a verb with a help for one screen: its own options a line each, the common ones in one line.
fn shorten_help(verb: Command, folded: &str, example: &str) -> Command {
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    let details = verb.get_long_about().map(ToString::to_string).unwrap_or_default();
    let details = details.strip_prefix(&about).unwrap_or_default().trim().replace('\n', " ");
    let details = if details.is_empty() { details } else { textwrap::fill(&details, page::columns()) + "\n\n" };
    let arguments = if verb.get_arguments().all(Arg::is_hide_set) { "" } else { "\n\n{all-args}" };
    verb.long_about(None::<&str>)
        .help_template(format!("{{about}}\n\n{details}{{usage-heading}} {{usage}}{arguments}{{after-help}}"))
        .after_help(format!("{folded}\n\n{}", describe_examples(example)))
}

/// Returns the common options in a line of the terminal, as many as it has room for.
fn fold_common_options(program: &Command) -> String {
    const END: &str = " (harden-why --help)";
    /// That of clap's lines.
    const WIDEST: usize = 100;
    let name = |arg: &Arg| {
        arg.get_short()
            .map_or_else(|| format!("--{}", arg.get_id().as_str().replace('_', "-")), |short| format!("-{short}"))
    };
    let mut line = "Common options:".to_owned();
    let mut names = program.get_arguments().filter(|arg| arg.get_help_heading() == Some(COMMON)).map(name).peekable();
    while let Some(name) = names.next() {
        let rest = if names.peek().is_some() { ", …" } else { "" };
        if line.chars().count() + " ".len() + name.len() + rest.chars().count() + END.len()
            > page::columns().min(WIDEST)
        {
            line += " …";
            break;
        }
        line = format!("{line} {name}{}", if rest.is_empty() { "" } else { "," });
    }
    line + END
}

/// Returns a line for each verb, with its group in front of the first.
fn describe_groups(program: &Command) -> String {
    let mut text = String::new();
    for (group, verbs) in GROUPS {
        for (index, (verb, _)) in verbs.iter().enumerate() {
            let about = program.find_subcommand(verb).and_then(Command::get_about).map(ToString::to_string);
            let (name, about) =
                if verb.is_empty() { ("[UNIT]...", ANSWER.to_owned()) } else { (*verb, about.unwrap_or_default()) };
            let group = if index == 0 { group } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", wrap(&format!("{group:<8} {name:<13} {about}")));
        }
    }
    text
}

/// Wraps a line to the columns of the terminal. Its text goes on below itself if there is room for it.
fn wrap(line: &str) -> String {
    const NARROW: usize = 60;
    let columns = page::columns();
    let indent = " ".repeat(if columns < NARROW { INDENT / 2 } else { INDENT });
    textwrap::fill(line, textwrap::Options::new(columns).subsequent_indent(&indent))
}

fn describe_examples(examples: &str) -> String {
    let lines: Vec<String> = examples.lines().map(|line| format!("  {line}")).collect();
    let heading = if lines.len() == 1 { "Example:" } else { "Examples:" };
    format!("{heading}\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_one_group_and_has_an_example_that_parses() {
        let named: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| *verbs).map(|(verb, _)| *verb).collect();
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert_eq!(named.iter().filter(|name| **name == verb.get_name()).count(), 1, "{}", verb.get_name());
        }
        for (verb, examples) in GROUPS.iter().flat_map(|(_, verbs)| *verbs) {
            for example in examples.lines() {
                let command = example.rsplit("| ").next().unwrap().split(" >").next().unwrap().replace('\'', "");
                let parsed = Cli::program().try_get_matches_from(command.split(' '));
                assert_eq!(parsed.unwrap().subcommand_name().unwrap_or_default(), *verb, "{example}");
            }
        }
    }

    #[test]
    fn help_of_every_verb_fits_a_terminal_of_24_lines() {
        for (verb, _) in GROUPS.iter().flat_map(|(_, verbs)| *verbs).filter(|(verb, _)| !verb.is_empty()) {
            let helps = [["help", verb], [verb, "--help"], [verb, "-h"]].map(|words| {
                let words = ["harden-why"].into_iter().chain(words);
                Cli::program().term_width(80).try_get_matches_from(words).unwrap_err().to_string()
            });
            let [text, others @ ..] = &helps;
            assert!(others.iter().all(|other| other == text), "{helps:#?}");
            assert!(text.trim_end().lines().count() <= 23, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            let folded = "Common options: -v, --all-remedies, --json, -o, -q, … (harden-why --help)";
            assert!(text.lines().any(|line| line == folded) && text.contains("\nExample"), "{text}");
            assert!(!text.contains("--color"), "{text}");
        }
    }

    #[test]
    fn short_help_fits_a_terminal_of_24_lines() {
        let text = Cli::program().term_width(80).render_help().to_string();
        assert!(text.trim_end().lines().count() <= 23, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for verb in ["follow", "completions", "Fix", "Offline", "[UNIT]..."] {
            assert!(text.contains(verb), "{verb}: {text}");
        }
        let long = Cli::program().render_long_help().to_string();
        for part in ["--state-dir", "--json", "Examples:", "harden-why apply --restart nginx", "Exit status:"] {
            assert!(long.contains(part), "{part}: {long}");
        }
    }
}
