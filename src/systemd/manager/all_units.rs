//! What a manager holds of all its units that run processes, asked at once rather than one after the other.

use super::{ListedUnit, MANAGER, PATH, SystemdError, SystemdManager, UnitProperties, interface};
use crate::units::UnitName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use zbus::OwnedObjectPath;

/// The questions under way at a time.
const AT_A_TIME: usize = 16;

/// More units are not asked about.
const MOST: usize = 10_000;

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(10);

impl SystemdManager {
    /// The facts of every loaded unit that can run processes, in no order, and whether those are all. Of where a unit
    /// comes from nothing is asked. `told` hears of how many units how many were asked about.
    ///
    /// # Errors
    /// It does not list its units. A unit that is gone, or not answered for within ten seconds in all, is left out.
    pub async fn list_loaded_units(
        &self,
        mut told: impl FnMut(usize, usize),
    ) -> Result<(Vec<UnitProperties>, bool), SystemdError> {
        let listed: Vec<ListedUnit> = self.ask(PATH, MANAGER, "ListUnits", &()).await?;
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
        let (places, mut asked) = (Arc::new(Semaphore::new(AT_A_TIME)), JoinSet::new());
        for (name, [active_state, sub_state], path, interface) in units.into_iter().take(MOST) {
            let (manager, places) = (self.clone(), Arc::clone(&places));
            asked.spawn(async move {
                // Nobody closes it.
                let _place = places.acquire().await;
                let properties = manager.get_all(&path, interface).await?;
                let facts = UnitProperties::read(&name, &properties);
                Ok(UnitProperties { load_state: "loaded".to_owned(), active_state, sub_state, ..facts })
            });
        }
        let deadline = Instant::now() + LONGEST;
        let mut known = Vec::with_capacity(count);
        for done in 0..=count {
            told(done, count);
            match timeout_at(deadline, asked.join_next()).await {
                Ok(None) => break,
                Ok(Some(Ok(Ok(facts)))) => known.push(facts),
                // One that does not answer will not answer the rest, either; what is under way ends with the set.
                Ok(Some(Ok(Err(SystemdError::TimedOut)))) | Err(_) => return Ok((known, false)),
                Ok(Some(_)) => complete = false,
            }
        }
        Ok((known, complete))
    }
}
