//! Every command that the documentation prints can be typed as printed.

use super::Cli;
use crate::cli::lookup::similar_names::similar_verb;
use clap::error::ErrorKind;
use std::ffi::OsString;

/// The pages with commands, by name.
const PAGES: [(&str, &str); 9] = [
    ("README.md", include_str!("../../../README.md")),
    ("CONTRIBUTING.md", include_str!("../../../CONTRIBUTING.md")),
    ("SECURITY.md", include_str!("../../../SECURITY.md")),
    ("packaging/README.md", include_str!("../../../packaging/README.md")),
    ("packaging/integrations.md", include_str!("../../../packaging/integrations.md")),
    ("tests/README.md", include_str!("../../../tests/README.md")),
    ("tests/tasks.md", include_str!("../../../tests/tasks.md")),
    ("harden-why.1", include_str!("../../../packaging/manuals/harden-why.1")),
    ("harden-whyd.8", include_str!("../../../packaging/manuals/harden-whyd.8")),
];

/// Returns the lines and pieces of a page that are code.
fn find_code(name: &str, page: &str) -> Vec<String> {
    let is_markdown = std::path::Path::new(name).extension().is_some_and(|end| end == "md");
    if !is_markdown {
        let lines = page.lines().filter_map(|line| line.strip_prefix(".B ").or_else(|| line.strip_prefix("    ")));
        let plain =
            |line: &str| line.replace("\\-", "-").replace("\\(aq", "'").replace("\\(dq", "\"").replace("\\&", "");
        return lines.map(plain).collect();
    }
    let mut code = Vec::new();
    for (index, part) in page.split("```").enumerate() {
        if index % 2 == 1 {
            code.extend(part.lines().map(ToOwned::to_owned));
        } else {
            // Lines with four spaces are code as well.
            code.extend(part.lines().filter_map(|line| line.strip_prefix("    ")).map(ToOwned::to_owned));
            code.extend(part.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ").replace("\\|", "|")));
        }
    }
    code
}

/// Splits a line as a shell does, into commands of words. A comment, redirections and what follows them are left out.
fn split_commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for letter in line.chars() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            ('|' | '&' | ';' | '>' | '<', None) => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            ('↵', None) => {}
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    commands.push(words);
    commands
}

/// Returns the words behind the program, if a command runs it.
fn arguments_of(command: &[String]) -> Option<&[String]> {
    let command = match command {
        [sudo, rest @ ..] if sudo == "sudo" => rest,
        command => command,
    };
    let (program, arguments) = command.split_first()?;
    (program.rsplit('/').next() == Some("harden-why")).then_some(arguments)
}

/// Whether an error says that words are the name of a verb or an option, without what it needs.
fn is_name_alone(error: ErrorKind, words: &[String]) -> bool {
    let Some(last) = words.last() else { return false };
    match error {
        ErrorKind::MissingRequiredArgument => Cli::program().find_subcommand(last).is_some(),
        ErrorKind::InvalidValue => last.starts_with("--"),
        _ => false,
    }
}

#[test]
fn every_printed_command_parses() {
    let mut counts = Vec::new();
    for (name, page) in PAGES {
        let commands: Vec<Vec<String>> = find_code(name, page).iter().flat_map(|line| split_commands(line)).collect();
        let mut count = 0;
        for arguments in commands.iter().filter_map(|command| arguments_of(command)) {
            // The shells are listed elsewhere.
            let words = arguments.iter().map(|word| if word == "SHELL" { "bash" } else { word });
            let words: Vec<OsString> = ["harden-why"].into_iter().chain(words).map(Into::into).collect();
            let cli = match Cli::parse_words(&words) {
                // The name of a verb or an option in a sentence.
                Err(error) if is_name_alone(error.kind(), arguments) => continue,
                parsed => parsed.unwrap_or_else(|error| panic!("{name}: {arguments:?}: {error}")),
            };
            count += 1;
            // A mistyped command would be a unit.
            let mistyped = cli.units.units.iter().find(|word| cli.command.is_none() && similar_verb(word).is_some());
            assert_eq!(mistyped, None, "{name}: {arguments:?}");
        }
        counts.push((name, count));
    }
    let count = |page| counts.iter().find(|(name, _)| *name == page).map_or(0, |(_, count)| *count);
    assert!(count("README.md") > 25 && count("harden-why.1") > 10 && count("tests/tasks.md") > 10, "{counts:?}");
}

#[test]
fn line_is_split_as_by_a_shell() {
    let split = |line| split_commands(line).into_iter().map(|words| words.join(",")).collect::<Vec<_>>();
    assert_eq!(split("a 'b c' | d \"e\" ''  # f"), ["a,b c", "d,e,"]);
    assert_eq!(split("a || b >c"), ["a", "", "b", "c"]);
}
