//! The error of a change to the files of a manager.

use super::interruption::Interruption;

/// Why a change failed, and whether the manager may hold it.
#[derive(Debug)]
pub(crate) enum ChangeError {
    /// The manager has not read the change.
    Unread(anyhow::Error),
    /// The manager may have read the change, and forgets it only with another reload.
    MaybeRead(anyhow::Error),
}

impl ChangeError {
    /// The error of a step before the manager reads anything.
    pub(crate) fn before_read(error: impl Into<anyhow::Error>) -> Self {
        Self::Unread(error.into())
    }

    /// Returns the error alone.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Unread(error) | Self::MaybeRead(error) => error,
        }
    }
}

/// Without other knowledge, the manager may have read the change.
impl From<anyhow::Error> for ChangeError {
    fn from(error: anyhow::Error) -> Self {
        Self::MaybeRead(error)
    }
}

/// Returns the result of a change, or an error with the name of a signal that came first.
pub(crate) async fn or_signal<T>(
    change: impl Future<Output = Result<T, ChangeError>>,
    interruption: &mut Interruption,
) -> Result<T, ChangeError> {
    interruption.or(async { Ok(change.await) }).await.unwrap_or_else(|signal| Err(signal.into()))
}
