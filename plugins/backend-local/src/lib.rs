//! Sessions on this machine, as processes of the server's own user.
//!
//! A place is a folder below the plugin's data folder ([`place`]): what to run, and what was started. Starting it runs
//! the keeper as a daemon ([`sys`]), in a process session of its own and, where cgroups can be written, in a control group
//! of its own ([`cgroup`]), so that ending a place ends all that was started in it. Without cgroups, the keeper's
//! descendants and every process with the session's mark in its environment are what belongs to a place ([`tree`]).
//!
//! Nothing is kept in memory that matters: places are found again by their folders, and a keeper by its process id
//! together with its start time, so that another process with the same id is never mistaken for it.

mod cgroup;
mod config;
mod error;
mod lifecycle;
mod place;
mod process;
mod sys;
mod tree;
mod watch;

pub use config::LocalConfig;

use crate::cgroup::Hierarchies;
use crate::error::LocalError;
use crate::lifecycle::Started;
use crate::place::{Place as PlaceFolder, Places as PlacesFolder};
use crate::watch::Changes;
use berth_plugin_api::doc::{
    BackendCapabilities, BackendDescription, CreateRequest, DeleteRequest, Deleted, Filesystem,
    Inspection, ListRequest, OpenRequest, Place, PlaceRequest, PlaceState, Places, Probe,
    SessionRef, StopRequest, WatchRequest,
};
use berth_plugin_api::{Backend, Code, Cx, Error, Result, Stream, WatchSink};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// How long `connect` waits for a keeper that has just started, where the host sets no limit.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How often `connect` looks at most, while it waits.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// The backend for sessions on this machine.
#[derive(Debug)]
pub struct LocalBackend {
    places: Arc<PlacesFolder>,
    hierarchies: Arc<Hierarchies>,
    changes: Changes,
}

impl LocalBackend {
    fn find(&self, session: &SessionRef) -> Result<PlaceFolder> {
        Ok(self.places.place(&session.id)?)
    }

    /// Runs work that touches files and processes to its end, even when the call is dropped meanwhile.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hierarchies) -> Result<T, LocalError> + Send + 'static,
    ) -> Result<T> {
        let hierarchies = Arc::clone(&self.hierarchies);
        let done = tokio::task::spawn_blocking(move || work(&hierarchies)).await;
        Ok(done.map_err(Error::internal)??)
    }
}

impl Backend for LocalBackend {
    fn describe() -> BackendDescription {
        BackendDescription {
            capabilities: BackendCapabilities {
                filesystem: Filesystem::Host,
                resources: true,
                watch: true,
                ..BackendCapabilities::default()
            },
            config_schema: Some(LocalConfig::schema()),
            options_schema: Some(json!({
                "type": "object",
                "additionalProperties": false,
            })),
        }
    }

    async fn open(request: OpenRequest) -> Result<Self> {
        let config = LocalConfig::parse(request.config)?;
        let places = tokio::task::spawn_blocking(move || PlacesFolder::open(&request.data_dir))
            .await
            .map_err(Error::internal)??;
        Ok(Self {
            places: Arc::new(places),
            hierarchies: Arc::new(Hierarchies::find(config.cgroups, &request.instance)),
            changes: Changes::default(),
        })
    }

    async fn probe(&self, _cx: &Cx) -> Result<Probe> {
        let places = Arc::clone(&self.places);
        let fault = self
            .blocking(move |_| Ok(places.check().err().map(|fault| fault.to_string())))
            .await?;
        Ok(Probe {
            available: fault.is_none(),
            reason: fault,
            architecture: std::env::consts::ARCH.to_owned(),
            engine: Some("this machine".to_owned()),
            facts: BTreeMap::from([("processes".to_owned(), self.hierarchies.to_string())]),
        })
    }

    async fn create(&self, _cx: &Cx, request: CreateRequest) -> Result<Place> {
        let place = self.find(&request.session)?;
        let id = request.session.id.clone();
        let warnings = self
            .blocking(move |hierarchies| lifecycle::create(&place, hierarchies, &request))
            .await?;
        self.changes.tell(&id);
        Ok(Place {
            handle: handle(&id),
            warnings,
        })
    }

    async fn start(&self, _cx: &Cx, request: PlaceRequest) -> Result<()> {
        let place = self.find(&request.session)?;
        let started = self
            .blocking(move |hierarchies| lifecycle::start(&place, hierarchies))
            .await?;
        if started == Started::Now {
            self.changes.tell(&request.session.id);
        }
        Ok(())
    }

    async fn stop(&self, _cx: &Cx, request: StopRequest) -> Result<()> {
        let session = request.place.session;
        let place = self.find(&session)?;
        lifecycle::ask_to_end(&place, Duration::from_millis(request.grace_ms)).await?;
        self.blocking(move |_| lifecycle::end(&place)).await?;
        self.changes.tell(&session.id);
        Ok(())
    }

    async fn delete(&self, _cx: &Cx, request: DeleteRequest) -> Result<Deleted> {
        let session = request.place.session;
        let place = self.find(&session)?;
        let removed = self.blocking(move |_| lifecycle::delete(&place)).await?;
        self.changes.tell(&session.id);
        Ok(Deleted { removed })
    }

    async fn inspect(&self, _cx: &Cx, request: PlaceRequest) -> Result<Inspection> {
        let place = self.find(&request.session)?;
        self.blocking(move |_| lifecycle::inspect(&place)).await
    }

    async fn list(&self, _cx: &Cx, request: ListRequest) -> Result<Places> {
        let places = Arc::clone(&self.places);
        let places = self
            .blocking(move |_| lifecycle::list(&places, &request.instance))
            .await?;
        Ok(Places { places })
    }

    async fn connect(&self, cx: &Cx, request: PlaceRequest) -> Result<Stream> {
        let place = self.find(&request.session)?;
        let give_up = Instant::now() + cx.time_limit().unwrap_or(CONNECT_LIMIT);
        let mut pause = Duration::from_millis(1);
        loop {
            let fault = match place.socket() {
                Ok(socket) => match UnixStream::connect(socket.path()).await {
                    Ok(stream) => return Ok(Stream::new(stream)),
                    Err(fault) => fault.to_string(),
                },
                Err(fault) => fault.to_string(),
            };
            let place = place.clone();
            let seen = self.blocking(move |_| lifecycle::inspect(&place)).await?;
            if seen.state != PlaceState::Running {
                return Err(not_running(&request.session, &seen));
            }
            if Instant::now() >= give_up {
                return Err(Error::unavailable(format!(
                    "the keeper of session {} runs but does not answer: {fault}",
                    request.session.id
                )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CONNECT_PAUSE);
        }
    }

    async fn watch(&self, _cx: &Cx, request: WatchRequest, sink: WatchSink) -> Result<()> {
        let changes = self.changes.subscribe();
        watch::run(&self.places, changes, &request.instance, &sink).await
    }
}

fn handle(session_id: &str) -> Value {
    json!({ "version": 1, "place": session_id })
}

fn not_running(session: &SessionRef, seen: &Inspection) -> Error {
    match seen.state {
        PlaceState::Missing | PlaceState::DataLost => {
            Error::not_found(format!("session {} has no place here", session.id))
        }
        _ => Error::new(
            Code::Conflict,
            format!(
                "session {} does not run here: {}",
                session.id,
                seen.engine_status.as_deref().unwrap_or("never started")
            ),
        ),
    }
}

berth_plugin_api::export_plugin! { backend: LocalBackend, name: "local" }

#[cfg(test)]
mod tests;
