//! How much of a resource one user, and all users together, may hold at once. Root has no limit.

/// The limits of one resource.
pub(super) struct UserRoom {
    /// The most of one user.
    pub(super) of_one: usize,
    /// The most of all users except root.
    pub(super) of_all: usize,
}

impl UserRoom {
    /// Whether a user may take one more, given what each user holds. A user can occur several times.
    pub(super) fn is_left(&self, held: impl Iterator<Item = (u32, usize)>, uid: u32) -> bool {
        let (mut own, mut all) = (0, 0);
        for (holder, count) in held.filter(|(holder, _)| *holder != 0) {
            own += if holder == uid { count } else { 0 };
            all += count;
        }
        uid == 0 || (own < self.of_one && all < self.of_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_at_limit_leaves_room_for_other_users_and_root() {
        let room = UserRoom { of_one: 8, of_all: 64 };
        let is_left = |holder: u32, count: usize, uid: u32| {
            // One after the other, and at once.
            let each = room.is_left(std::iter::repeat_n((holder, 1), count), uid);
            assert_eq!(each, room.is_left([(holder, count)].into_iter(), uid));
            each
        };
        assert!(is_left(1000, 7, 1000));
        assert!(!is_left(1000, 8, 1000));
        assert!(is_left(1000, 8, 1001));
        assert!(!is_left(1000, 64, 1001), "all users together");
        assert!(is_left(1000, 64, 0) && is_left(0, 8, 0), "root always may");
        assert!(is_left(0, 64, 1000), "root's do not count");
    }
}
