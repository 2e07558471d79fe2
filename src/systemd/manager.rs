//! Asks service managers over D-Bus (`org.freedesktop.systemd1(5)`): the system manager over the system bus, a user
//! manager over its private socket.
//!
//! This module caches no answers, since systemd does not announce a change of a filter. A user manager is a process of
//! its user: its answers count for that user's units only, and every call has a time limit.

pub(crate) mod active_state;
pub(crate) mod all_units;
pub(crate) mod build;
pub(crate) mod control;
mod held_lines;
mod known_properties;
pub(crate) mod past_processes;
pub(crate) mod private;
pub(crate) mod processes;
mod property_map;
pub(crate) mod related_units;
pub(crate) mod timer;
pub(crate) mod unit_properties;

pub use control::{MainExit, UnitJob, UnitOutcome, UnitState};
pub use past_processes::{PastProcess, PidAtTime};
pub(crate) use related_units::{LoadedInstance, RelatedUnits};
pub use unit_properties::{NameList, UnitProperties};

use super::bus_address::BusAddress;
use crate::audit::text::escape;
use crate::units::{Manager, UnitName};
use known_properties::KnownProperties;
use property_map::PropertyMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, connection, fdo};

/// The time limit of one call.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most dependents of a unit that are searched for.
const MOST_DEPENDENTS: usize = 64;

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// The directories of users' sockets, one per uid (`XDG_RUNTIME_DIR`, `pam_systemd(8)`).
const RUNTIME_ROOT: &str = "/run/user";

/// A unit in the reply of `ListUnits`, `ListUnitsByNames` and `ListUnitsByPatterns`: name, description, load state, active
/// state, sub state, followed unit, object path, job id, job type, job path (`org.freedesktop.systemd1(5)`).
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Names of D-Bus errors: of systemd (`src/libsystemd/sd-bus/bus-common-errors.h`), and of a bus for a path without an
/// object.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";

/// Why a manager gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SystemdError {
    /// Nothing listens on the socket of the manager or its bus.
    #[error("cannot reach the {manager} service manager: {why}")]
    Unreachable {
        /// The manager.
        manager: Manager,
        /// The error of the attempt.
        why: String,
    },
    /// The manager did not answer in time.
    #[error("the service manager did not answer in time")]
    TimedOut,
    /// The manager or its bus denies access.
    #[error("the service manager or its bus denies access: {0}")]
    AccessDenied(String),
    /// The manager knows no such unit and finds no file for one.
    #[error("Unit {0} not found.")]
    NoSuchUnit(UnitName),
    /// More running units than are searched for stop together with the unit.
    #[error("more than {} running units stop with {_0}, so they could not all be started again", MOST_DEPENDENTS)]
    TooManyDependents(UnitName),
    /// The manager has a unit of that name already.
    #[error("the service manager has a {0} already")]
    UnitExists(String),
    /// The manager answered with a D-Bus error: its name, a colon and its text.
    #[error("the service manager refuses: {0}")]
    Refused(String),
    /// The reply has an unexpected form.
    #[error("the service manager's answer is invalid: {0}")]
    BadReply(String),
}

impl SystemdError {
    /// Whether the manager did not do what it was asked for. After any other error, it is unknown whether it did.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NoSuchUnit(_) | Self::AccessDenied(_) | Self::Unreachable { .. })
    }

    /// Whether the manager answered with the D-Bus error of this name.
    fn is_named(&self, name: &str) -> bool {
        let Self::Refused(answer) = self else { return false };
        answer.split_once(':').map_or(answer.as_str(), |(name, _)| name) == name
    }

    /// Returns [`Self::NoSuchUnit`] for an answer that a unit does not exist, and any other error as it is.
    fn or_no_such_unit(self, name: &UnitName) -> Self {
        if self.is_named(NO_SUCH_UNIT) || self.is_named(UNKNOWN_OBJECT) { Self::NoSuchUnit(name.clone()) } else { self }
    }
}

/// The service managers of a machine: the system manager and every user manager.
#[derive(Debug)]
pub struct Managers {
    bus: BusAddress,
    runtime_root: PathBuf,
    system: tokio::sync::Mutex<Option<Connection>>,
}

impl Managers {
    /// The managers of this machine. `bus` is the system manager's bus. No session bus has a system manager, so
    /// [`BusAddress::Session`] stands for the system bus here.
    #[must_use]
    pub fn new(bus: &BusAddress) -> Self {
        let bus = if *bus == BusAddress::Session { BusAddress::System } else { bus.clone() };
        Self { bus, runtime_root: RUNTIME_ROOT.into(), system: tokio::sync::Mutex::default() }
    }

    /// The managers of a machine whose system bus has this D-Bus address; `runtime_root` replaces `/run/user`.
    #[must_use]
    pub fn with_paths(address: impl Into<String>, runtime_root: impl Into<PathBuf>) -> Self {
        let bus = BusAddress::Address(address.into());
        Self { bus, runtime_root: runtime_root.into(), system: tokio::sync::Mutex::default() }
    }

    /// The uids with a runtime directory, and so perhaps with a manager; at most `most`.
    #[must_use]
    pub fn users(&self, most: usize) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.runtime_root).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).take(most).collect()
    }

    /// Connects to a manager. Reuses one connection to the system bus until it closes.
    ///
    /// # Errors
    /// The manager does not run, denies access or does not answer.
    pub async fn connect(&self, manager: Manager) -> Result<SystemdManager, SystemdError> {
        let connection = match manager {
            Manager::System => {
                let mut kept = self.system.lock().await;
                match kept.as_ref().filter(|connection| !connection.is_closed()) {
                    Some(connection) => connection.clone(),
                    None => kept.insert(build_connection(self.bus.builder(), Manager::System).await?).clone(),
                }
            }
            Manager::User(uid) => self.connect_user(uid).await?,
        };
        Ok(SystemdManager::new(connection, manager))
    }

    /// Connects to a user manager over its private socket, which root may use too. Without that socket, connects to the
    /// manager of this process's own user over the session bus.
    async fn connect_user(&self, uid: u32) -> Result<Connection, SystemdError> {
        let manager = Manager::User(uid);
        let directory = self.runtime_root.join(uid.to_string());
        let socket = directory.join("systemd/private");
        let stream = match tokio::net::UnixStream::connect(&socket).await {
            Ok(stream) => stream,
            Err(_) if uid == nix::unistd::geteuid().as_raw() && directory.join("bus").exists() => {
                let address = format!("unix:path={}", directory.join("bus").display());
                return build_connection(connection::Builder::address(address.as_str()), manager).await;
            }
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
                return Err(SystemdError::AccessDenied(format!("{}: {err}", socket.display())));
            }
            Err(err) => return Err(SystemdError::Unreachable { manager, why: format!("{}: {err}", socket.display()) }),
        };
        // A user can put a link to another user's socket there. The other user's manager must not answer for this user.
        let owner =
            stream.peer_cred().map_err(|err| SystemdError::Unreachable { manager, why: err.to_string() })?.uid();
        if owner != uid {
            return Err(SystemdError::AccessDenied(format!("{} is uid {owner}'s", socket.display())));
        }
        build_connection(connection::Builder::socket(private::PrivateSocket(stream)).p2p(), manager).await
    }
}

async fn build_connection(builder: connection::Builder<'_>, manager: Manager) -> Result<Connection, SystemdError> {
    match tokio::time::timeout(PATIENCE, builder.build()).await {
        Err(_) => Err(SystemdError::TimedOut),
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(err)) => Err(match classify_error(err) {
            SystemdError::BadReply(why) | SystemdError::Refused(why) => SystemdError::Unreachable { manager, why },
            other => other,
        }),
    }
}

/// One service manager.
#[derive(Debug, Clone)]
pub struct SystemdManager {
    connection: Connection,
    manager: Manager,
}

impl SystemdManager {
    /// Takes a connection to the manager itself, or to a bus that the manager is on.
    #[must_use]
    pub fn new(connection: Connection, manager: Manager) -> Self {
        Self { connection, manager }
    }

    /// The manager's identity: system, or user with uid.
    #[must_use]
    pub fn manager(&self) -> Manager {
        self.manager
    }

    /// The manager's version, e.g. `252.39-1~deb12u1`.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn version(&self) -> Result<String, SystemdError> {
        let version: String =
            self.get(&OwnedObjectPath::try_from(PATH).map_err(classify_error)?, MANAGER, "Version").await?;
        Ok(version)
    }

    /// The environment that the manager passes to its units. A user manager passes its own, which names the directories
    /// of the user's files.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn environment(&self) -> Result<Vec<String>, SystemdError> {
        self.get(&OwnedObjectPath::try_from(PATH).map_err(classify_error)?, MANAGER, "Environment").await
    }

    /// The time at which the manager last loaded its unit files, in microseconds since the epoch.
    ///
    /// # Errors
    /// The manager does not answer, or is too old to have the property.
    pub async fn units_loaded_at(&self) -> Result<u64, SystemdError> {
        self.get(&OwnedObjectPath::try_from(PATH).map_err(classify_error)?, MANAGER, "UnitsLoadTimestamp").await
    }

    /// The time at which the manager started, in microseconds since the epoch. It distinguishes one instance from the
    /// next.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn started_at(&self) -> Result<u64, SystemdError> {
        self.get(&OwnedObjectPath::try_from(PATH).map_err(classify_error)?, MANAGER, "UserspaceTimestamp").await
    }

    /// Returns a unit's current properties; the manager loads the unit if necessary. A running process can still have
    /// the filter of an earlier version.
    ///
    /// # Errors
    /// [`SystemdError::NoSuchUnit`] for an unknown unit, or the manager does not answer.
    pub async fn unit_properties(&self, name: &UnitName) -> Result<UnitProperties, SystemdError> {
        in_time(async {
            // The manager can unload the unit before the next call.
            let gone = |err: SystemdError| err.or_no_such_unit(name);
            let path: Result<OwnedObjectPath, _> = self.call(PATH, MANAGER, "LoadUnit", &(name.as_str(),)).await;
            let path = path.map_err(gone)?;
            let mut properties: KnownProperties = self.get_all(&path, UNIT).await.map_err(gone)?;
            if let Some(interface) = interface(name.suffix()) {
                properties.extend(self.get_all(&path, interface).await.map_err(gone)?);
            }
            let mut facts = UnitProperties::parse(name, &properties);
            if facts.need_daemon_reload {
                facts.units_loaded_us = self.units_loaded_at().await.ok();
            }
            if facts.load_state == "not-found" { Err(SystemdError::NoSuchUnit(name.clone())) } else { Ok(facts) }
        })
        .await
    }

    async fn get_all<T>(&self, path: &OwnedObjectPath, interface: &str) -> Result<T, SystemdError>
    where
        T: for<'a> zbus::wire::DynamicDeserialize<'a>,
    {
        self.call(path.as_str(), PROPERTIES, "GetAll", &(interface,)).await
    }

    async fn get<T>(&self, path: &OwnedObjectPath, interface: &str, property: &str) -> Result<T, SystemdError>
    where
        T: TryFrom<OwnedVariant, Error = zbus::Error>,
    {
        let value: OwnedVariant = self.call(path.as_str(), PROPERTIES, "Get", &(interface, property)).await?;
        T::try_from(value).map_err(classify_error)
    }

    async fn call<B, T>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<T, SystemdError>
    where
        B: serde::Serialize + zbus::DynamicType,
        T: for<'a> zbus::wire::DynamicDeserialize<'a>,
    {
        let destination = self.connection.is_bus().then_some(SERVICE);
        in_time(async {
            let reply = self.connection.call_method(destination, path, Some(interface), method, body).await;
            reply.map_err(classify_error)?.body().deserialize().map_err(classify_error)
        })
        .await
    }
}

/// Limits the time of an answer.
async fn in_time<T>(answer: impl Future<Output = Result<T, SystemdError>>) -> Result<T, SystemdError> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(SystemdError::TimedOut))
}

/// The D-Bus interface of a unit type that runs processes.
fn interface(suffix: &str) -> Option<&'static str> {
    Some(match suffix {
        "service" => "org.freedesktop.systemd1.Service",
        "socket" => "org.freedesktop.systemd1.Socket",
        "mount" => "org.freedesktop.systemd1.Mount",
        "swap" => "org.freedesktop.systemd1.Swap",
        _ => return None,
    })
}

/// The names of the bus's own errors for a call whose answer did not come: the manager may have done what it was asked for.
const LOST_ANSWERS: [&str; 3] =
    ["org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout", "org.freedesktop.DBus.Error.TimedOut"];

/// Classifies a D-Bus error. Its text comes from another process and is escaped.
fn classify_error(err: zbus::Error) -> SystemdError {
    match err {
        zbus::Error::MethodError(name, ..) if LOST_ANSWERS.contains(&name.as_str()) => SystemdError::TimedOut,
        zbus::Error::MethodError(name, detail, _) => {
            let detail = detail.unwrap_or_default();
            SystemdError::Refused(escape(format!("{}: {detail}", name.as_str()).as_bytes()))
        }
        zbus::Error::FDO(err) => match *err {
            fdo::Error::AccessDenied(why) | fdo::Error::AuthFailed(why) => {
                SystemdError::AccessDenied(escape(why.as_bytes()))
            }
            fdo::Error::Timeout(_) | fdo::Error::TimedOut(_) | fdo::Error::NoReply(_) => SystemdError::TimedOut,
            fdo::Error::Disconnected(why) => SystemdError::BadReply(escape(why.as_bytes())),
            other => SystemdError::Refused(escape(other.to_string().as_bytes())),
        },
        zbus::Error::InputOutput(err) | zbus::Error::Connection(err, _)
            if err.kind() == io::ErrorKind::PermissionDenied =>
        {
            SystemdError::AccessDenied(err.to_string())
        }
        zbus::Error::InputOutput(err) if err.kind() == io::ErrorKind::TimedOut => SystemdError::TimedOut,
        zbus::Error::Handshake(why) => SystemdError::AccessDenied(escape(why.as_bytes())),
        other => SystemdError::BadReply(escape(other.to_string().as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn answer_that_did_not_come_is_no_refusal() {
        let message = zbus::message::Message::method_call("/x", "X").build(&()).unwrap();
        let error = |name: &str| {
            let name = zbus::names::OwnedErrorName::try_from(name).unwrap();
            classify_error(zbus::Error::MethodError(name, None, message.clone()))
        };
        for name in LOST_ANSWERS {
            assert!(!error(name).is_refusal(), "{name}");
        }
        assert!(error("org.freedesktop.systemd1.UnitMasked").is_refusal());
        let gone = zbus::Error::FDO(Box::new(fdo::Error::Disconnected("gone".to_owned())));
        assert!(!classify_error(gone).is_refusal());
    }

    #[test]
    fn error_is_known_by_its_whole_name() {
        let answer = |text: &str| SystemdError::Refused(text.to_owned());
        assert!(answer("org.freedesktop.systemd1.NoSuchUnit: Unit x.service not found.").is_named(NO_SUCH_UNIT));
        assert!(answer("org.freedesktop.systemd1.NoSuchUnit").is_named(NO_SUCH_UNIT));
        assert!(!answer("org.freedesktop.systemd1.NoSuchUnitFile: x").is_named(NO_SUCH_UNIT));
        assert!(!SystemdError::BadReply(NO_SUCH_UNIT.to_owned()).is_named(NO_SUCH_UNIT));
        let name: UnitName = "x.service".parse().unwrap();
        let gone = classify_error(zbus::Error::FDO(Box::new(fdo::Error::UnknownObject("no".to_owned()))));
        assert_eq!(gone.or_no_such_unit(&name), SystemdError::NoSuchUnit(name.clone()));
        let other = answer("org.freedesktop.systemd1.JobTypeNotApplicable: NoSuchUnit");
        assert_eq!(other.clone().or_no_such_unit(&name), other);
    }

    #[test]
    fn missing_manager_is_unreachable() {
        let root = tempfile::tempdir().unwrap();
        let managers = Managers::with_paths(format!("unix:path={}/bus", root.path().display()), root.path());
        for manager in [Manager::System, Manager::User(4_242)] {
            let err = run(managers.connect(manager)).unwrap_err();
            assert!(matches!(&err, SystemdError::Unreachable { manager: of, .. } if *of == manager), "{err}");
        }
    }

    #[test]
    fn socket_of_other_user_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let other = nix::unistd::getuid().as_raw() + 1;
        let directory = root.path().join(other.to_string()).join("systemd");
        std::fs::create_dir_all(&directory).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(directory.join("private")).unwrap();
        let managers = Managers::with_paths(String::new(), root.path());
        assert!(matches!(run(managers.connect(Manager::User(other))), Err(SystemdError::AccessDenied(_))));
    }

    #[test]
    fn silent_manager_times_out() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("bus");
        let _listener = std::os::unix::net::UnixListener::bind(&bus).unwrap();
        let managers = Managers::with_paths(format!("unix:path={}", bus.display()), root.path());
        assert_eq!(run(managers.connect(Manager::System)).unwrap_err(), SystemdError::TimedOut);
    }

    /// A manager that unloads each unit before its properties are read.
    struct Forgetful;

    #[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
    impl Forgetful {
        #[expect(clippy::unused_self, reason = "the macro wants it")]
        fn load_unit(&self, name: &str) -> OwnedObjectPath {
            assert_eq!(name, "gone.service");
            "/org/freedesktop/systemd1/unit/gone".try_into().unwrap()
        }
    }

    #[test]
    fn unit_unloaded_between_calls_is_no_such_unit() {
        run(async {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            let server = connection::Builder::unix_stream(theirs).server(zbus::Guid::generate()).p2p();
            let server = server.serve_at(PATH, Forgetful).build();
            let (server, client) = tokio::join!(server, connection::Builder::unix_stream(ours).p2p().build());
            let (_server, manager) = (server.unwrap(), SystemdManager::new(client.unwrap(), Manager::System));
            let gone = "gone.service".parse().unwrap();
            assert_eq!(manager.unit_properties(&gone).await, Err(SystemdError::NoSuchUnit(gone)));
        });
    }

    #[test]
    fn text_of_dbus_error_is_escaped() {
        let err = classify_error(zbus::Error::Handshake("\u{1b}[2J".to_owned()));
        assert_eq!(err, SystemdError::AccessDenied("\\x1b[2J".to_owned()));
    }
}
