//! The D-Bus interface: each call passes through [`Admission`](super::admission::Admission) before the service.

use super::service::Service;
use std::collections::HashMap;
use std::fmt::Write;
use zbus::export::async_trait::async_trait;
use zbus::message::{Header, Message};
use zbus::names::{InterfaceName, MemberName};
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, ObjectServer, OwnedVariant, Variant, fdo};

/// The service, for admitted calls only.
pub(crate) struct AdmittedInterface(pub(crate) Service);

// zbus has no other place between the arrival of a message and the reading of its arguments. If a later version changes
// this trait, the compiler reports it.
#[async_trait]
impl Interface for AdmittedInterface {
    fn name() -> InterfaceName<'static> {
        Service::name()
    }

    async fn get(
        &self,
        name: &str,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        self.0.get(name, server, connection, header, emitter).await
    }

    async fn get_all(
        &self,
        server: &ObjectServer,
        connection: &Connection,
        header: Option<&Header<'_>>,
        emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        self.0.get_all(server, connection, header, emitter).await
    }

    async fn set_mut(
        &mut self,
        _name: &str,
        _value: &Variant<'_>,
        _server: &ObjectServer,
        _connection: &Connection,
        _header: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        // No property can be set.
        None
    }

    fn call<'call>(
        &'call self,
        server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        DispatchResult::Async(Box::pin(async move {
            let (bytes, header) = (message.body().len(), message.header());
            let permit = self.0.admission.enter(&name, bytes, &header, connection).await;
            let _permit = permit.map_err(|refused| -> BoxDBusError { Box::new(refused) })?;
            match self.0.call(server, connection, message, name.clone()) {
                DispatchResult::Async(answer) => answer.await,
                DispatchResult::NotFound | DispatchResult::RequiresMut => {
                    Err(fdo::Error::UnknownMethod(format!("there is no method {name}")).into())
                }
            }
        }))
    }

    fn call_mut<'call>(
        &'call mut self,
        _server: &'call ObjectServer,
        _connection: &'call Connection,
        _message: &'call Message,
        _name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        DispatchResult::NotFound
    }

    fn introspect_to_writer(&self, writer: &mut dyn Write, level: usize) {
        self.0.introspect_to_writer(writer, level);
    }
}
