//! Manual pages and completions, generated from the definitions that parse the programs' arguments.
//!
//! Text written by people is in the templates next to this file; a line `@NAME@` in one stands for
//! generated text.

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use harden_why::cli::args::help::GROUPS;
use harden_why::cli::args::{Cli, Daemon};
use harden_why::cli::completions;
use std::io;

/// A file, and its place below the output directory.
pub(crate) struct File {
    /// Its place.
    pub(crate) path: String,
    /// Its content.
    pub(crate) content: String,
}

/// The programs, as they parse their arguments.
pub(crate) fn programs() -> [(&'static str, Command); 2] {
    [("harden-why", Cli::command()), ("harden-whyd", Daemon::command())]
}

/// Every manual page and every completion.
///
/// # Errors
/// Never, as long as memory can be written.
pub(crate) fn files() -> io::Result<Vec<File>> {
    let pages = [
        ("harden-why.1", include_str!("harden-why.1")),
        ("harden-whyd.8", include_str!("harden-whyd.8")),
        ("org.hardenwhy1.5", include_str!("org.hardenwhy1.5")),
    ];
    let mut files = Vec::new();
    for (name, template) in pages {
        let program = programs().into_iter().find(|(program, _)| name.starts_with(&format!("{program}.")));
        files.push(File {
            path: format!("man/{name}"),
            content: page(template, program.map(|(_, args)| args).as_ref())?,
        });
    }
    for (name, program) in programs() {
        let paths = [format!("bash/{name}"), format!("zsh/_{name}"), format!("fish/{name}.fish")];
        let texts = completions::generate(name, &program)?;
        files.extend(paths.into_iter().zip(texts).map(|(path, content)| File { path, content }));
    }
    Ok(files)
}

/// A template with its placeholders replaced.
fn page(template: &str, program: Option<&Command>) -> io::Result<String> {
    let mut page = String::new();
    for line in template.lines() {
        match (line, program) {
            ("@options@", Some(program)) => page += &options(program)?,
            ("@commands@", Some(program)) => page += &commands(program)?,
            (line, _) => {
                page += &line.replace("@version@", env!("CARGO_PKG_VERSION"));
                page.push('\n');
            }
        }
    }
    Ok(page)
}

/// The options of a program, or of a verb alone, as a list.
fn options(command: &Command) -> io::Result<String> {
    let mut section = Vec::new();
    Man::new(command.clone()).render_options_section(&mut section)?;
    // The first heading is the template's.
    let section = utf8(section)?;
    let list = section.lines().skip_while(|line| !line.starts_with(".TP"));
    let set = |line: &str| match line.strip_prefix(".SH ") {
        Some(heading) => format!(".SS {}\n", sentence(heading)),
        // The string is defined in the preamble of a whole page, which this is not.
        None => line.replace(r"\*(Aq", r"\(aq") + "\n",
    };
    Ok(list.map(set).collect())
}

/// Turns a heading in capitals into the start of a sentence.
fn sentence(heading: &str) -> String {
    let mut first = true;
    let lower = |letter: char| {
        let is_first = letter.is_alphabetic() && std::mem::take(&mut first);
        if is_first { letter } else { letter.to_ascii_lowercase() }
    };
    heading.chars().map(lower).collect()
}

/// The verbs in the groups of the help, each with its arguments.
fn commands(program: &Command) -> io::Result<String> {
    let mut all = String::new();
    for (group, verbs) in GROUPS {
        all.extend([".SS ", group, "\n"]);
        for verb in verbs.iter().filter_map(|(verb, _)| program.find_subcommand(verb)) {
            // Alone it has only its own options, not those of every verb.
            let verb = verb.clone().disable_help_flag(true);
            let usage = verb.clone().render_usage().to_string();
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let words = format!(".PP\n.B \"{}\"\n.RS 4\n{about}.\n", usage.trim_start_matches("Usage: "));
            all += &words.replace('-', r"\-").replace('\'', r"\(aq");
            all += &options(&verb)?;
            all += ".RE\n";
        }
    }
    Ok(all)
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(io::Error::other)
}
