//! The words the store, the journal and D-Bus write for the small types, and back.

use crate::audit::Action;
use crate::units::{Manager, Rung};

/// `system`, or `user:1000`.
pub(crate) fn manager_word(manager: Manager) -> String {
    match manager {
        Manager::System => "system".to_owned(),
        Manager::User(uid) => format!("user:{uid}"),
    }
}

/// The reverse of [`manager_word`].
pub(crate) fn manager_from_word(word: &str) -> Option<Manager> {
    if word == "system" {
        return Some(Manager::System);
    }
    let uid = word.strip_prefix("user:")?;
    // "+5" and "05" parse as numbers, but are not what we write.
    let number = uid.parse().ok()?;
    (format!("{number}") == uid).then_some(Manager::User(number))
}

/// Every rung, surest first.
pub(crate) const RUNGS: [Rung; 7] = [
    Rung::Told,
    Rung::OwnCgroup,
    Rung::MainProcess,
    Rung::ControlProcess,
    Rung::ParentCgroup,
    Rung::JournalEntry,
    Rung::Executable,
];

/// The rung in kebab case, e.g. `own-cgroup`.
pub(crate) fn rung_word(rung: Rung) -> &'static str {
    match rung {
        Rung::Told => "told",
        Rung::OwnCgroup => "own-cgroup",
        Rung::MainProcess => "main-process",
        Rung::ControlProcess => "control-process",
        Rung::ParentCgroup => "parent-cgroup",
        Rung::JournalEntry => "journal-entry",
        Rung::Executable => "executable",
    }
}

/// The reverse of [`rung_word`].
pub(crate) fn rung_from_word(word: &str) -> Option<Rung> {
    RUNGS.into_iter().find(|rung| rung_word(*rung) == word)
}

/// The action's own word, or `code 0x…` for one without.
pub(crate) fn action_word(action: Action) -> String {
    action.to_string()
}

/// The reverse of [`action_word`].
pub(crate) fn action_from_word(word: &str) -> Option<Action> {
    match word.strip_prefix("code 0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(Action::Other),
        None => Action::from_word(word.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for manager in [Manager::System, Manager::User(0), Manager::User(u32::MAX)] {
            assert_eq!(manager_from_word(&manager_word(manager)), Some(manager));
        }
        for rung in RUNGS {
            assert_eq!(rung_from_word(rung_word(rung)), Some(rung));
        }
        for code in [0x8000_0000, 0, 0x0003_0000, 0x0005_0000, 0x7fc0_0000, 0x7ff0_0000, 0x7ffc_0000, 7] {
            let action = Action::from_code(code);
            assert_eq!(action_from_word(&action_word(action)), Some(action));
        }
        assert_eq!(action_from_word(&action_word(Action::Kill)), Some(Action::Kill));
    }

    #[test]
    fn the_rungs_stand_in_the_order_of_their_sureness() {
        assert!(RUNGS.is_sorted());
    }

    #[test]
    fn other_words_are_refused() {
        for word in ["", "user", "user:", "user:-1", "user:+1", "user:01", "user:4294967296", "System"] {
            assert_eq!(manager_from_word(word), None, "{word}");
        }
        assert_eq!(rung_from_word(""), None);
        assert_eq!(action_from_word("code 7"), None);
    }
}
