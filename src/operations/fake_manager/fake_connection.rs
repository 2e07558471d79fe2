//! A connection to a fake manager, each of whose calls can fail.

use super::fake_state::{Condition, FakeState, Fault, Quirk, environment};
use crate::operations::service_manager::ServiceManager;
use crate::systemd::manager::{
    LoadedInstance, MainExit, SystemdError, UnitJob, UnitOutcome, UnitProperties, UnitState,
};
use crate::units::{Manager, UnitName};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// A connection to the manager of a `FakeMachine`.
pub(crate) struct FakeManager(pub(super) Rc<RefCell<FakeState>>);

impl FakeManager {
    /// Does the work of a call, unless it is the one that fails.
    pub(super) async fn call<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut FakeState) -> Result<T, SystemdError>,
    ) -> Result<T, SystemdError> {
        let (fault, condition) = {
            let mut state = self.0.borrow_mut();
            let number = state.calls.len();
            state.calls.push(name);
            (state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault), state.condition)
        };
        // Every real call waits for the manager at least once.
        tokio::task::yield_now().await;
        let work = || work(&mut self.0.borrow_mut());
        let gone = || Err(SystemdError::BadReply("the connection was closed".to_owned()));
        if condition == Condition::ManagerGone {
            return gone();
        }
        match fault {
            None => work(),
            Some(Fault::Refused) => Err(SystemdError::Refused("org.freedesktop.systemd1.Failed: no".to_owned())),
            Some(Fault::LostRequest) => Err(SystemdError::TimedOut),
            Some(Fault::LostAnswer) => {
                let _ = work();
                Err(SystemdError::TimedOut)
            }
            Some(Fault::ManagerGone) => {
                self.0.borrow_mut().condition = Condition::ManagerGone;
                gone()
            }
            Some(Fault::Signal) => {
                self.signal().await;
                work()
            }
            Some(Fault::SignalAfterWork) => {
                let done = work();
                self.signal().await;
                done
            }
            Some(Fault::Kill) => self.kill().await,
            Some(Fault::KillAfterWork) => {
                let _ = work();
                self.kill().await
            }
        }
    }

    /// Sends a signal. An operation that receives it drops the call here.
    async fn signal(&self) {
        let is_twice = self.0.borrow().quirks.contains(&Quirk::SignalsTwice);
        for _ in 0..=u8::from(is_twice) {
            self.0.borrow().signals.send("SIGINT").unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    async fn kill<T>(&self) -> T {
        self.0.borrow_mut().condition = Condition::ClientKilled;
        std::future::pending().await
    }
}

impl ServiceManager for FakeManager {
    fn manager(&self) -> Manager {
        self.0.borrow().unit.manager
    }

    async fn version(&self) -> Result<String, SystemdError> {
        self.call("version", |_| Ok("252.39-1".to_owned())).await
    }

    async fn environment(&self) -> Result<Vec<String>, SystemdError> {
        self.call("environment", |_| Ok(environment())).await
    }

    async fn started_at(&self) -> Result<u64, SystemdError> {
        self.call("started_at", |_| Ok(7)).await
    }

    async fn units_loaded_at(&self) -> Result<u64, SystemdError> {
        self.call("units_loaded_at", |_| Ok(u64::MAX)).await
    }

    async fn unit_properties(&self, name: &UnitName) -> Result<UnitProperties, SystemdError> {
        self.call("unit_properties", |state| {
            if *name == state.unit.name { Ok(state.properties()) } else { Err(SystemdError::NoSuchUnit(name.clone())) }
        })
        .await
    }

    async fn wait_for_unit_properties(&self, name: &UnitName, _: Duration) -> Result<UnitProperties, SystemdError> {
        loop {
            match self.unit_properties(name).await {
                Err(SystemdError::TimedOut) => {}
                answer => return answer,
            }
        }
    }

    async fn list_loaded_units(&self) -> Result<(Vec<UnitProperties>, bool), SystemdError> {
        self.call("list_loaded_units", |state| Ok((vec![state.properties()], true))).await
    }

    async fn list_instances(&self, template: &UnitName) -> Result<Vec<LoadedInstance>, SystemdError> {
        self.call("list_instances", |state| {
            let name = &state.unit.name;
            let is_running = state.active_state == "active";
            let own = LoadedInstance { name: name.clone(), is_running };
            let others = state.instances.iter().map(|name| LoadedInstance { name: name.clone(), is_running: true });
            let all = std::iter::once(own).chain(others);
            Ok(all.filter(|one| one.name.template_name().as_ref() == Some(template)).collect())
        })
        .await
    }

    async fn unit_state(&self, _: &UnitName) -> Result<UnitState, SystemdError> {
        self.call("unit_state", |state| {
            let sub_state = if state.active_state == "active" { "running" } else { "dead" }.to_owned();
            let invocation = (state.invocation > 0).then_some([state.invocation; 16]);
            if state.quirks.contains(&Quirk::StartsAgain) {
                state.invocation += 1;
            }
            let (outcome, refuted) = (state.outcome(), state.quirks.contains(&Quirk::IsRefuted));
            Ok(UnitState { outcome, sub_state, busy: false, unmet: false, refuted, invocation })
        })
        .await
    }

    async fn linked_units(&self, _: &UnitName, properties: &[&str]) -> Result<Vec<(UnitName, String)>, SystemdError> {
        self.call("linked_units", |state| {
            let linked = state.linked.iter().filter(|(property, ..)| properties.contains(property));
            Ok(linked.map(|(_, name, active_state)| (name.parse().unwrap(), (*active_state).to_owned())).collect())
        })
        .await
    }

    async fn main_exit(&self, _: &UnitName) -> Result<MainExit, SystemdError> {
        self.call("main_exit", |_| Ok(MainExit::default())).await
    }

    async fn running_dependents(&self, _: &UnitName) -> Result<Vec<UnitName>, SystemdError> {
        Ok(self.0.borrow().dependents.clone())
    }

    async fn control_group(&self, name: &UnitName) -> Result<Option<String>, SystemdError> {
        self.call("control_group", |state| Ok(state.control_groups.get(name).cloned())).await
    }

    async fn coming_control_group(&self, name: &UnitName) -> Result<String, SystemdError> {
        self.call("coming_control_group", |_| Ok(format!("/system.slice/{name}"))).await
    }

    async fn reload(&self) -> Result<(), SystemdError> {
        self.call("reload", |state| {
            state.reload();
            Ok(())
        })
        .await
    }

    async fn start_job(&self, name: &UnitName, job: UnitJob) -> Result<(), SystemdError> {
        self.call("start_job", |state| {
            if *name == state.unit.name {
                state.run_job(job);
            } else if state.quirks.contains(&Quirk::RefusesDependents) {
                return Err(SystemdError::Refused("org.freedesktop.systemd1.Failed: no".to_owned()));
            } else {
                state.other_jobs.push((name.clone(), job));
            }
            Ok(())
        })
        .await
    }

    async fn wait_for_job(&self, _: &UnitName, _: Duration) -> Result<UnitOutcome, SystemdError> {
        self.call("wait_for_job", |state| Ok(state.outcome())).await
    }

    async fn keep_loaded(&self, _: &UnitName) -> Result<(), SystemdError> {
        self.call("keep_loaded", |_| Ok(())).await
    }

    async fn start_timer(&self, name: &str, _: &str, _: Duration, _: &[String]) -> Result<(), SystemdError> {
        self.call("start_timer", |state| {
            if state.timers.insert(name.to_owned()) { Ok(()) } else { Err(SystemdError::UnitExists(name.to_owned())) }
        })
        .await
    }

    async fn stop_timer(&self, name: &str) -> Result<bool, SystemdError> {
        self.call("stop_timer", |state| Ok(state.timers.remove(name))).await
    }
}
