//! The settings for the system's own configuration, where `/etc` is read-only.

use crate::audit::text::shown_path;
use crate::cli::terminal::page::{GOOD, Page, styled};
use serde::Serialize;
use std::path::Path;

/// A remedy's lines as the system's own configuration has them.
#[derive(Debug, Clone, Serialize)]
pub struct SystemConfiguration {
    /// The directory in which no drop-in can be written.
    pub read_only: String,
    /// `nixos` for options of a NixOS module, `unit-file` for lines of a unit file.
    pub form: &'static str,
    /// The lines.
    pub lines: Vec<String>,
}

impl SystemConfiguration {
    /// Lines of a NixOS module.
    pub(crate) fn nixos(read_only: &Path, lines: Vec<String>) -> Self {
        Self { read_only: shown_path(read_only), form: "nixos", lines }
    }

    /// Lines of a unit file.
    pub(crate) fn unit_file(read_only: &Path, lines: Vec<String>) -> Self {
        Self { read_only: shown_path(read_only), form: "unit-file", lines }
    }

    /// Adds the lines to a page.
    pub(crate) fn add_to_page(&self, page: &mut Page) {
        let whose = if self.form == "nixos" { "configuration (NixOS)" } else { "own configuration or image" };
        page.paragraph(
            0,
            &format!("{} is read-only. To keep the remedy, add this to the system's {whose}:", self.read_only),
        );
        for line in &self.lines {
            page.line(format_args!("  {}", styled(GOOD, line)));
        }
    }
}
