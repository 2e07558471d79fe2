//! How a manager was built, and in which process it runs.

use super::{MANAGER, PATH, SERVICE, SystemdError, SystemdManager, classify_error, in_time};
use zbus::OwnedObjectPath;

impl SystemdManager {
    /// The features that the manager was built with: `+PAM -SECCOMP …`.
    ///
    /// # Errors
    /// The manager does not answer.
    pub async fn features(&self) -> Result<String, SystemdError> {
        self.get(&OwnedObjectPath::try_from(PATH).map_err(classify_error)?, MANAGER, "Features").await
    }

    /// The manager's process.
    ///
    /// # Errors
    /// The manager does not answer, or nothing tells its process.
    pub async fn process_id(&self) -> Result<u32, SystemdError> {
        if self.connection.is_bus() {
            let bus = "org.freedesktop.DBus";
            let call = self.connection.call_method(
                Some(bus),
                "/org/freedesktop/DBus",
                Some(bus),
                "GetConnectionUnixProcessID",
                &(SERVICE,),
            );
            return in_time(async { call.await.map_err(classify_error)?.body().deserialize().map_err(classify_error) })
                .await;
        }
        let peer = self.connection.peer_creds().await.map_err(|err| SystemdError::BadReply(err.to_string()))?;
        peer.process_id().ok_or_else(|| SystemdError::BadReply("its process is not known".to_owned()))
    }
}
