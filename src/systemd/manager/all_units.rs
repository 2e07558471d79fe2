//! Reads the properties of all units of a manager that run processes, several at a time.

use super::{ListedUnit, MANAGER, PATH, SystemdError, SystemdManager, UnitProperties, interface};
use crate::units::UnitName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use zbus::OwnedObjectPath;

/// The number of D-Bus calls under way at a time.
const MAX_CALLS: usize = 16;

/// The limit of units read.
const MOST: usize = 10_000;

/// The time limit for all units.
const LONGEST: Duration = Duration::from_secs(10);

impl SystemdManager {
    /// Returns the properties of these units, in their order. Asks several at a time.
    pub(crate) async fn properties_of(&self, names: &[UnitName]) -> Vec<Result<UnitProperties, SystemdError>> {
        let (places, mut calls) = (Arc::new(Semaphore::new(MAX_CALLS)), JoinSet::new());
        for (index, name) in names.iter().cloned().enumerate() {
            let (manager, places) = (self.clone(), Arc::clone(&places));
            calls.spawn(async move {
                // The semaphore is never closed.
                let _place = places.acquire().await;
                (index, manager.unit_properties(&name).await)
            });
        }
        let mut answers = vec![Err(SystemdError::TimedOut); names.len()];
        let deadline = Instant::now() + LONGEST;
        while let Ok(Some(done)) = timeout_at(deadline, calls.join_next()).await {
            let Ok((index, answer)) = done else { continue };
            // A manager that timed out once will time out again.
            let is_late = matches!(answer, Err(SystemdError::TimedOut));
            if let Some(place) = answers.get_mut(index) {
                *place = answer;
            }
            if is_late {
                break;
            }
        }
        answers
    }

    /// Returns the properties of every loaded unit that can run processes, in no order, and whether the list is
    /// complete. The properties about the units' files stay empty. `progress` receives the number of units read and of
    /// all units.
    ///
    /// # Errors
    /// The manager does not list its units. The result lacks units that vanish, and units not read within ten
    /// seconds in all.
    pub async fn list_loaded_units(
        &self,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(Vec<UnitProperties>, bool), SystemdError> {
        let listed: Vec<ListedUnit> = self.call(PATH, MANAGER, "ListUnits", &()).await?;
        let units: Vec<(UnitName, [String; 2], OwnedObjectPath, &'static str)> = listed
            .into_iter()
            .filter(|(_, _, load_state, ..)| load_state == "loaded")
            .filter_map(|(name, _, _, active_state, sub_state, _, path, ..)| {
                let name: UnitName = name.parse().ok()?;
                let interface = interface(name.suffix())?;
                Some((name, [active_state, sub_state], path, interface))
            })
            .collect();
        let mut complete = units.len() <= MOST;
        let count = units.len().min(MOST);
        let (places, mut calls) = (Arc::new(Semaphore::new(MAX_CALLS)), JoinSet::new());
        for (name, [active_state, sub_state], path, interface) in units.into_iter().take(MOST) {
            let (manager, places) = (self.clone(), Arc::clone(&places));
            calls.spawn(async move {
                // The semaphore is never closed.
                let _place = places.acquire().await;
                let properties = manager.get_all(&path, interface).await?;
                let facts = UnitProperties::parse(&name, &properties);
                Ok(UnitProperties { load_state: "loaded".to_owned(), active_state, sub_state, ..facts })
            });
        }
        let deadline = Instant::now() + LONGEST;
        let mut known = Vec::with_capacity(count);
        for done in 0..=count {
            progress(done, count);
            match timeout_at(deadline, calls.join_next()).await {
                Ok(None) => break,
                Ok(Some(Ok(Ok(facts)))) => known.push(facts),
                // A manager that timed out once will time out again. Dropping the set ends the calls under way.
                Ok(Some(Ok(Err(SystemdError::TimedOut)))) | Err(_) => return Ok((known, false)),
                Ok(Some(_)) => complete = false,
            }
        }
        Ok((known, complete))
    }
}
