//! A unit's settings, as the client asks for them and speaks of them.

pub(super) use crate::host::situation::{
    DROP_IN, Known, REHEARSAL, as_it_is, from_files, home_of, live, not_understood,
};
