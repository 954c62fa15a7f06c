//! What the author of a backend implements.

use crate::doc::{
    BackendDescription, CreateRequest, DeleteRequest, Deleted, Inspection, ListRequest,
    OpenRequest, Place, PlaceRequest, Places, Probe, Progress, RefreshRequest, Refreshed,
    StopRequest, WatchEvent, WatchRequest,
};
use crate::{Error, Result, Stream};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A place to run sessions: Docker, a cluster, this machine.
///
/// A backend makes a place, runs one given static program in it (the keeper), reaches that program by a byte stream, and says
/// what state the place is in. Terminal, files, transcripts and signals are the keeper's.
///
/// Every operation may be called again with the same session id after its answer was lost, and the call may be dropped at
/// any await: `create` answers the place that is there, `delete` and `stop` succeed on what is absent. Operations run at
/// once, on the plugin's own runtime, each for itself; a panic is that call's error.
pub trait Backend: Sized + Send + Sync + 'static {
    /// What it can do. Called before `open`, without configuration.
    fn describe() -> BackendDescription;

    /// Opens the plugin. Reaching the engine is not needed for it: `probe` tells whether it answers.
    ///
    /// # Errors
    /// The configuration is wrong; the plugin is then listed as refused, with the message.
    fn open(request: OpenRequest) -> impl Future<Output = Result<Self>> + Send;

    /// Whether sessions can be made now; answers within a few seconds even when the engine hangs.
    fn probe(&self, cx: &Cx) -> impl Future<Output = Result<Probe>> + Send;

    /// Makes a place and starts nothing in it.
    fn create(&self, cx: &Cx, request: CreateRequest)
    -> impl Future<Output = Result<Place>> + Send;

    /// Starts the keeper in a place. One that runs is a success.
    fn start(&self, cx: &Cx, request: PlaceRequest) -> impl Future<Output = Result<()>> + Send;

    /// Ends what runs in a place. One that does not run, or is absent, is a success.
    fn stop(&self, cx: &Cx, request: StopRequest) -> impl Future<Output = Result<()>> + Send;

    /// Removes a place, by its handle or, where that is null, by the session's id. An absent one is a success.
    fn delete(
        &self,
        cx: &Cx,
        request: DeleteRequest,
    ) -> impl Future<Output = Result<Deleted>> + Send;

    /// Says what a place is doing. One that is not there is an answer ([`PlaceState::Missing`](crate::doc::PlaceState)).
    fn inspect(
        &self,
        cx: &Cx,
        request: PlaceRequest,
    ) -> impl Future<Output = Result<Inspection>> + Send;

    /// Lists all places of an installation, found by what is on the engine, not by what the plugin remembers.
    fn list(&self, cx: &Cx, request: ListRequest) -> impl Future<Output = Result<Places>> + Send;

    /// Opens a new byte stream to the keeper in a running place. Several may be open at once. While the place is just
    /// starting it waits for the keeper rather than fail.
    fn connect(
        &self,
        cx: &Cx,
        request: PlaceRequest,
    ) -> impl Future<Output = Result<Stream>> + Send;

    /// Tells changes of places until the call is dropped: first the present state of each, then each change.
    fn watch(
        &self,
        cx: &Cx,
        request: WatchRequest,
        sink: WatchSink,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (cx, request, sink);
        async { Err(Error::unsupported("watch")) }
    }

    /// Pulls the session's image and makes the place anew when it has changed.
    fn refresh(
        &self,
        cx: &Cx,
        request: RefreshRequest,
    ) -> impl Future<Output = Result<Refreshed>> + Send {
        let _ = (cx, request);
        async { Err(Error::unsupported("refresh")) }
    }

    /// The host is about to end. Sessions go on running.
    fn shutdown(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What comes with a call.
#[derive(Clone)]
pub struct Cx {
    request_id: [u8; 16],
    time_limit: Option<Duration>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Cx {
    /// A context for calls made without a host, as tests do.
    pub fn detached() -> Self {
        Self {
            request_id: [0; 16],
            time_limit: None,
            progress: None,
        }
    }

    /// A context with these parts.
    pub fn new(
        request_id: [u8; 16],
        time_limit: Option<Duration>,
        progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    ) -> Self {
        Self {
            request_id,
            time_limit,
            progress,
        }
    }

    /// The id under which the host logs this call.
    pub fn request_id(&self) -> [u8; 16] {
        self.request_id
    }

    /// How long the host waits for the answer.
    pub fn time_limit(&self) -> Option<Duration> {
        self.time_limit
    }

    /// Tells how long work goes on; the session's user sees it.
    pub fn progress(&self, progress: Progress) {
        if let Some(tell) = &self.progress {
            tell(progress);
        }
    }
}

impl std::fmt::Debug for Cx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx")
            .field("request_id", &self.request_id)
            .field("time_limit", &self.time_limit)
            .finish_non_exhaustive()
    }
}

/// Where `watch` puts what it sees. It holds few events: a slow host makes `send` wait.
#[derive(Debug, Clone)]
pub struct WatchSink(mpsc::Sender<WatchEvent>);

impl WatchSink {
    /// A sink and the end that its events come out of.
    pub fn channel() -> (Self, mpsc::Receiver<WatchEvent>) {
        let (sender, receiver) = mpsc::channel(64);
        (Self(sender), receiver)
    }

    /// Tells one change.
    ///
    /// # Errors
    /// Nobody listens any more: `watch` should return.
    pub async fn send(&self, event: WatchEvent) -> Result<()> {
        self.0
            .send(event)
            .await
            .map_err(|_| Error::new(crate::Code::Cancelled, "nobody watches any more"))
    }
}
