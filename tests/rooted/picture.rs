//! The picture in README.md is drawn from the output of the program.
//!
//! `UPDATE=1 cargo test --test rooted picture` draws it again. Look at it before you commit it.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The command that the picture shows, of an administrator on the machine of the log.
const PROMPT: &str = "$ harden-why explain --root / journal.export";

/// Colours for pages in light and dark, with enough contrast on both.
const COLORS: &str = "\
    .bg { fill: #0d1117 }
    .fg { fill: #e6edf3 }
    .fg-cyan { fill: #39c5cf }
    .fg-green { fill: #3fb950 }
    .fg-red { fill: #ff7b72 }
    .fg-yellow { fill: #d29922 }
    .dimmed { opacity: 0.7 }
    @media (prefers-color-scheme: light) {
      .bg { fill: #f6f8fa }
      .fg { fill: #1f2328 }
      .fg-cyan { fill: #1b7c83 }
      .fg-green { fill: #1a7f37 }
      .fg-red { fill: #cf222e }
      .fg-yellow { fill: #7d4e00 }
    }
";

/// Returns what the program prints about the log of the golden screen `nginx`, with its colours.
fn output() -> String {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens/nginx");
    let arguments = fs::read_to_string(case.join("args")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command.args(["--color", "always"]).args(arguments.lines()).current_dir(&case);
    let output = command.env("TZ", "UTC").env("COLUMNS", "80").env_remove("NO_COLOR").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Draws a terminal with this text, which stays selectable.
fn draw(text: &str) -> String {
    let svg = anstyle_svg::Term::new().render_svg(text);
    let style = format!("{COLORS}  </style>");
    assert_eq!(svg.matches("</style>").count(), 1);
    svg.replacen("  </style>", &style, 1)
}

#[test]
fn picture_in_readme_shows_the_present_output() {
    let path = "packaging/screenshot.svg";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let drawn = draw(&format!("{PROMPT}\n{}", output()));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &drawn).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap() == drawn, "UPDATE=1 cargo test --test rooted picture draws it again");
    assert!(include_str!("../../README.md").contains(path));
}
