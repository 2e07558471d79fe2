//! Runs a command after a delay. A transient timer and its service do this, and outlive this process.

use super::{MANAGER, NO_SUCH_UNIT, PATH, SystemdError, SystemdManager, UNIT_EXISTS};
use std::time::Duration;
use zbus::{OwnedObjectPath, Variant};

/// The delay before a failed command runs again.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// The properties of a transient unit.
type TransientProperties<'a> = Vec<(&'a str, Variant<'a>)>;

impl SystemdManager {
    /// Starts a timer that runs a command after a delay, and again after each failure except exit status 1. `name` is
    /// the name of the timer and the service, without suffix.
    ///
    /// # Errors
    /// [`SystemdError::UnitExists`] if the timer exists already; the manager refuses, or does not answer.
    pub async fn start_timer(
        &self,
        name: &str,
        description: &str,
        delay: Duration,
        command: &[String],
    ) -> Result<(), SystemdError> {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let timer: TransientProperties<'_> = vec![
            ("Description", description.into()),
            ("TimersMonotonic", vec![("OnActiveSec", micros(delay))].into()),
            ("AccuracyUSec", micros(Duration::from_secs(1)).into()),
            ("RemainAfterElapse", false.into()),
        ];
        let program = command.first().map(String::as_str).unwrap_or_default();
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let service: TransientProperties<'_> = vec![
            ("Description", description.into()),
            ("ExecStart", vec![(program, words, false)].into()),
            ("CollectMode", "inactive-or-failed".into()),
            ("Restart", "on-failure".into()),
            ("RestartUSec", micros(RETRY_DELAY).into()),
            ("SuccessExitStatus", (vec![1_i32], Vec::<i32>::new()).into()),
        ];
        let (timer_name, service_name) = (format!("{name}.timer"), format!("{name}.service"));
        let others = vec![(service_name.as_str(), service)];
        let body = (timer_name.as_str(), "fail", timer, others);
        let job: Result<OwnedObjectPath, _> = self.call(PATH, MANAGER, "StartTransientUnit", &body).await;
        match job {
            Ok(_) => Ok(()),
            Err(error) if error.is_named(UNIT_EXISTS) => Err(SystemdError::UnitExists(timer_name)),
            Err(error) => Err(error),
        }
    }

    /// Stops a timer of [`start_timer`](Self::start_timer). Returns whether the timer existed.
    ///
    /// # Errors
    /// The manager refuses, or does not answer.
    pub async fn stop_timer(&self, name: &str) -> Result<bool, SystemdError> {
        let stopped: Result<OwnedObjectPath, _> =
            self.call(PATH, MANAGER, "StopUnit", &(format!("{name}.timer"), "replace")).await;
        match stopped {
            Ok(_) => Ok(true),
            Err(error) if error.is_named(NO_SUCH_UNIT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
