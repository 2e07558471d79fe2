//! What a unit's `ActiveState` means (`unit_active_state_table` in systemd's `src/basic/unit-def.c`).

/// Whether a unit in this state runs. It is `reloading` or `refreshing` while it reads its configuration or its mounts.
pub(crate) fn is_active(active_state: &str) -> bool {
    matches!(active_state, "active" | "reloading" | "refreshing")
}

/// Whether a unit in this state runs or is about to.
pub(crate) fn is_up(active_state: &str) -> bool {
    is_active(active_state) || active_state == "activating"
}

/// Whether a unit in this state has ended, well or not. A unit that waits for its automatic restart is `activating`.
pub(crate) fn has_ended(active_state: &str) -> bool {
    matches!(active_state, "inactive" | "failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_systemd_runs_is_about_to_or_has_ended() {
        for (state, expected) in [
            ("active", (true, true, false)),
            ("reloading", (true, true, false)),
            ("refreshing", (true, true, false)),
            ("activating", (false, true, false)),
            ("deactivating", (false, false, false)),
            ("maintenance", (false, false, false)),
            ("inactive", (false, false, true)),
            ("failed", (false, false, true)),
        ] {
            assert_eq!((is_active(state), is_up(state), has_ended(state)), expected, "{state}");
        }
    }
}
