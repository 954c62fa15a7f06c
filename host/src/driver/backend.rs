//! The driver of a backend, wherever its code runs.

use super::document::{decode, encode};
use super::host_side::Listeners;
use super::open::Reset;
use super::stream::stream_of;
use super::watchdog::{ServiceRules, Watchdog};
use super::{BackendDriver, Call, DriverHealth, PluginInfo};
use abi_stable::std_types::{RErr, ROk, RResult};
use async_ffi::FfiFuture;
use async_trait::async_trait;
use berth_plugin_api::doc::{
    BackendDescription, CreateRequest, DeleteRequest, Deleted, Inspection, ListRequest, Place,
    PlaceRequest, Places, Probe, RefreshRequest, Refreshed, StopRequest, WatchEvent, WatchRequest,
};
use berth_plugin_api::raw::{Answer, CallCx, Doc, Fault, RawBackendObject};
use berth_plugin_api::{Code, Error, Result, Stream, WatchLine};
use futures_util::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

const WATCH_QUEUE: usize = 64;

/// A backend, wherever its code runs.
pub(crate) struct PluginBackend {
    inner: Arc<Inner>,
    _ends_tasks: DropGuard,
}

struct Inner {
    info: PluginInfo,
    description: BackendDescription,
    raw: RawBackendObject,
    listeners: Listeners,
    watchdog: Watchdog,
    tasks: TaskTracker,
    ended: CancellationToken,
    reset: OnceLock<Reset>,
    /// How long a plugin that is out of service has to answer a probe.
    probe_limit: Duration,
}

impl fmt::Debug for PluginBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginBackend")
            .field("info", &self.inner.info)
            .finish_non_exhaustive()
    }
}

impl PluginBackend {
    pub(super) fn new(
        info: PluginInfo,
        description: BackendDescription,
        raw: RawBackendObject,
        listeners: Listeners,
        rules: ServiceRules,
    ) -> Self {
        let ended = CancellationToken::new();
        Self {
            _ends_tasks: ended.clone().drop_guard(),
            inner: Arc::new(Inner {
                info,
                description,
                raw,
                listeners,
                watchdog: Watchdog::new(rules),
                tasks: TaskTracker::new(),
                ended,
                reset: OnceLock::new(),
                probe_limit: rules.default_limit,
            }),
        }
    }

    /// The same, for a plugin whose process can be ended when it keeps failing.
    pub(super) fn with_reset(self, reset: Option<Reset>) -> Self {
        if let Some(reset) = reset {
            self.inner.reset.set(reset).ok();
        }
        self
    }

    async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        call: Call,
        operation: &'static str,
        request: &Q,
        start: fn(&RawBackendObject, CallCx, Doc) -> Answer,
    ) -> Result<A> {
        self.inner.watchdog.admit(&self.inner.info.name)?;
        let request = encode(request)?;
        let outcome = self
            .inner
            .answer(&call, operation, |raw, cx| start(raw, cx, request))
            .await;
        let answer = self.judge(outcome)?;
        decode(operation, &answer)
    }

    /// Notes a failure; the one too many starts the probing.
    fn judge<T>(&self, outcome: Result<T, Failure>) -> Result<T> {
        outcome.map_err(|failure| {
            if failure.counts && self.inner.watchdog.failed(&failure.error) {
                warn!(plugin = %self.inner.info.name, error = %failure.error, "the plugin keeps failing and is out of service");
                self.inner.tasks.spawn(Arc::clone(&self.inner).probe_until_well());
            }
            failure.error
        })
    }
}

/// An error, and whether it speaks against the plugin.
struct Failure {
    error: Error,
    counts: bool,
}

impl Inner {
    /// Calls the plugin and waits for its answer, no longer than the call's limit.
    async fn answer<T>(
        &self,
        call: &Call,
        operation: &'static str,
        start: impl FnOnce(&RawBackendObject, CallCx) -> FfiFuture<RResult<T, Fault>>,
    ) -> Result<T, Failure> {
        let _listening = self
            .listeners
            .listen(call.request_id, call.progress.clone());
        let limit = u64::try_from(call.time_limit.as_millis()).unwrap_or(u64::MAX);
        let cx = CallCx::new(call.request_id.into_bytes(), limit);
        let name = &self.info.name;
        let work = AssertUnwindSafe(async { start(&self.raw, cx).await }).catch_unwind();
        match timeout(call.time_limit, work).await {
            Ok(Ok(ROk(answer))) => Ok(answer),
            Ok(Ok(RErr(fault))) => {
                let error = Error::from(fault);
                Err(Failure {
                    counts: matches!(error.code, Code::Panic | Code::PluginLost),
                    error,
                })
            }
            Ok(Err(_)) => Err(Failure {
                error: Error::new(
                    Code::Panic,
                    format!("the plugin {name} panicked in {operation}"),
                ),
                counts: true,
            }),
            Err(_) => Err(Failure {
                error: Error::new(
                    Code::Deadline,
                    format!(
                        "the plugin {name} did not answer {operation} within {:?}",
                        call.time_limit
                    ),
                ),
                // One place whose keeper does not come up must not take the backend from all others.
                counts: operation != "connect",
            }),
        }
    }

    /// Probes less and less often until the plugin answers; what it answers does not matter.
    async fn probe_until_well(self: Arc<Self>) {
        for pause in self.watchdog.probe_pauses() {
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let call = Call::new(self.probe_limit);
            let probe = self.answer(&call, "probe", |raw, cx| raw.probe(cx, null()));
            let outcome = tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                outcome = probe => outcome,
            };
            match outcome {
                Err(failure) if failure.counts => {
                    warn!(plugin = %self.info.name, error = %failure.error, "the plugin is still out of service");
                    if let Some(reset) = self.reset.get() {
                        reset();
                    }
                }
                Ok(_) | Err(_) => {
                    info!(plugin = %self.info.name, "the plugin is in service again");
                    self.watchdog.recovered();
                    return;
                }
            }
        }
    }

    /// Turns lines into events until one of the two ends is gone.
    async fn pass_events(self: Arc<Self>, stream: Stream, events: mpsc::Sender<WatchEvent>) {
        let mut lines = BufReader::new(stream).lines();
        loop {
            let line = tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                () = events.closed() => return,
                line = lines.next_line() => line,
            };
            let error = match line {
                Ok(None) => return,
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(WatchLine::Event(event)) => {
                        if events.send(event).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Ok(WatchLine::Error(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            warn!(plugin = %self.info.name, error, "the backend watches its places no longer");
            return;
        }
    }
}

fn null() -> Doc {
    Doc::from(b"null".to_vec())
}

#[async_trait]
impl BackendDriver for PluginBackend {
    fn info(&self) -> &PluginInfo {
        &self.inner.info
    }

    fn description(&self) -> &BackendDescription {
        &self.inner.description
    }

    fn health(&self) -> DriverHealth {
        self.inner.watchdog.health()
    }

    async fn probe(&self, call: Call) -> Result<Probe> {
        self.call(call, "probe", &(), |raw, cx, request| {
            raw.probe(cx, request)
        })
        .await
    }

    async fn create(&self, call: Call, request: &CreateRequest) -> Result<Place> {
        self.call(call, "create", request, |raw, cx, request| {
            raw.create(cx, request)
        })
        .await
    }

    async fn start(&self, call: Call, request: &PlaceRequest) -> Result<()> {
        self.call(call, "start", request, |raw, cx, request| {
            raw.start(cx, request)
        })
        .await
    }

    async fn stop(&self, call: Call, request: &StopRequest) -> Result<()> {
        self.call(call, "stop", request, |raw, cx, request| {
            raw.stop(cx, request)
        })
        .await
    }

    async fn delete(&self, call: Call, request: &DeleteRequest) -> Result<Deleted> {
        self.call(call, "delete", request, |raw, cx, request| {
            raw.delete(cx, request)
        })
        .await
    }

    async fn inspect(&self, call: Call, request: &PlaceRequest) -> Result<Inspection> {
        self.call(call, "inspect", request, |raw, cx, request| {
            raw.inspect(cx, request)
        })
        .await
    }

    async fn list(&self, call: Call, request: &ListRequest) -> Result<Places> {
        self.call(call, "list", request, |raw, cx, request| {
            raw.list(cx, request)
        })
        .await
    }

    async fn refresh(&self, call: Call, request: &RefreshRequest) -> Result<Refreshed> {
        self.call(call, "refresh", request, |raw, cx, request| {
            raw.refresh(cx, request)
        })
        .await
    }

    async fn connect(&self, call: Call, request: &PlaceRequest) -> Result<Stream> {
        self.inner.watchdog.admit(&self.inner.info.name)?;
        let request = encode(request)?;
        let outcome = self
            .inner
            .answer(&call, "connect", |raw, cx| raw.connect(cx, request))
            .await;
        self.judge(outcome).map(stream_of)
    }

    async fn watch(
        &self,
        call: Call,
        request: &WatchRequest,
    ) -> Result<mpsc::Receiver<WatchEvent>> {
        self.inner.watchdog.admit(&self.inner.info.name)?;
        let request = encode(request)?;
        let outcome = self
            .inner
            .answer(&call, "watch", |raw, cx| raw.watch(cx, request))
            .await;
        let stream = stream_of(self.judge(outcome)?);
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(inner.pass_events(stream, sender));
        Ok(receiver)
    }

    async fn shutdown(&self, grace: Duration) {
        self.inner.ended.cancel();
        let call = Call::new(grace);
        let outcome = self
            .inner
            .answer(&call, "shutdown", |raw, cx| raw.shutdown(cx, null()))
            .await;
        if let Err(failure) = outcome {
            warn!(plugin = %self.inner.info.name, error = %failure.error, "the plugin did not shut down cleanly");
        }
    }
}
