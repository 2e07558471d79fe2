//! The units that a unit starts or consists of, and the loaded instances of a template.

use super::active_state::has_ended;
use super::property_map::take;
use super::{ListedUnit, MANAGER, PATH, PropertyMap, SystemdError, SystemdManager, UNIT, in_time, interface};
use crate::units::UnitName;
use zbus::OwnedObjectPath;

/// The units to which a question about a unit may belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RelatedUnits {
    /// The units that it starts when it triggers: those of a timer, socket or path. A socket that starts an instance for
    /// each connection has their template here.
    pub(crate) triggers: Vec<UnitName>,
    /// The units that stop and restart with it (`PartOf=`).
    pub(crate) parts: Vec<UnitName>,
}

/// An instance of a template that a manager has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadedInstance {
    pub(crate) name: UnitName,
    /// Whether it runs or is about to.
    pub(crate) is_running: bool,
}

impl SystemdManager {
    /// Returns the units that a unit starts or consists of.
    ///
    /// # Errors
    /// The manager does not answer, or cannot load the unit.
    pub(crate) async fn related_units(&self, name: &UnitName) -> Result<RelatedUnits, SystemdError> {
        in_time(async {
            let path: OwnedObjectPath = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await?;
            let properties: PropertyMap = self.get_all(&path, UNIT).await?;
            let names = |key: &str| -> Vec<UnitName> {
                let names = take::<Vec<String>>(&properties, key).unwrap_or_default();
                names.iter().filter_map(|name| name.parse().ok()).collect()
            };
            let mut related = RelatedUnits { triggers: names("Triggers"), parts: names("ConsistsOf") };
            if let Some(socket) = interface(name.suffix()).filter(|_| name.suffix() == "socket")
                && take::<bool>(&self.get_all::<PropertyMap>(&path, socket).await?, "Accept") == Some(true)
            {
                // The instances of the moment are in Triggers=; those that ended are not.
                related.triggers = connection_template(name).into_iter().collect();
            }
            Ok(related)
        })
        .await
    }

    /// Lists the loaded instances of a template.
    ///
    /// # Errors
    /// The manager does not answer.
    pub(crate) async fn list_instances(&self, template: &UnitName) -> Result<Vec<LoadedInstance>, SystemdError> {
        // The patterns are those of fnmatch(3), to which a backslash is special.
        let pattern = template.as_str().replace('\\', "\\\\").replacen("@.", "@*.", 1);
        let (states, patterns) = (Vec::<String>::new(), vec![pattern]);
        let listed: Vec<ListedUnit> = self.call(PATH, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
        let instances = listed.into_iter().filter_map(|(name, _, load_state, active_state, ..)| {
            let name = name.parse().ok().filter(|_| load_state == "loaded")?;
            Some(LoadedInstance { name, is_running: !has_ended(&active_state) })
        });
        Ok(instances.collect())
    }
}

/// Returns the template of the services that a socket with `Accept=yes` starts (`socket_load_service_unit` in
/// `src/core/socket.c`).
fn connection_template(socket: &UnitName) -> Option<UnitName> {
    let (stem, _) = socket.as_str().rsplit_once('.')?;
    let prefix = stem.split('@').next()?;
    format!("{prefix}@.service").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_starts_instances_of_the_template_of_its_name() {
        let template = |socket: &str| connection_template(&socket.parse().unwrap()).unwrap().to_string();
        assert_eq!(template("echo.socket"), "echo@.service");
        assert_eq!(template("echo@lan.socket"), "echo@.service");
    }
}
