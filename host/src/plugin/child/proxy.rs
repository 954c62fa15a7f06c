//! The frozen types, on the server's side of a plugin's process.

use super::process::{Connection, Process};
use super::wire::DecoderId;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RErr, ROk, RResult, RSlice};
use async_ffi::FutureExt;
use berth_plugin_api::raw::{
    Answer, CallCx, Doc, Fault, RawAgent, RawAgent_TO, RawAgentObject, RawBackend, RawBackend_TO,
    RawBackendObject, RawDecoder, RawDecoder_TO, RawDecoderObject, RawStreamObject, StreamAnswer,
};
use berth_plugin_api::{Code, Error, Result, Stream, linked};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// An agent only computes. Its driver waits half as long; this is what frees the thread.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

fn raw<T>(outcome: Result<T>) -> RResult<T, Fault> {
    match outcome {
        Ok(value) => ROk(value),
        Err(error) => RErr(error.into()),
    }
}

fn bytes(document: Doc) -> Bytes {
    document.into_vec().into()
}

fn document(bytes: &Bytes) -> Doc {
    bytes.to_vec().into()
}

/// A backend in a process of its own.
pub(in crate::plugin) struct BackendProxy(Arc<Process>);

impl BackendProxy {
    pub(in crate::plugin) fn object(process: Arc<Process>) -> RawBackendObject {
        RawBackend_TO::from_value(Self(process), TD_Opaque)
    }

    fn call(&self, path: &'static str, cx: CallCx, request: Doc) -> Answer {
        let process = Arc::clone(&self.0);
        async move {
            let call = async {
                let connection = process.connection().await?;
                connection.ask(path, Some(cx), bytes(request)).await
            };
            raw(call.await.map(|answer| document(&answer)))
        }
        .into_ffi()
    }

    fn stream(&self, path: &'static str, cx: CallCx, request: Doc) -> StreamAnswer {
        let process = Arc::clone(&self.0);
        async move {
            let call = async {
                let connection = process.connection().await?;
                let pipe = connection.stream(path, cx, &request).await?;
                let stream = Stream::new(pipe);
                Ok::<RawStreamObject, Error>(linked::stream_object(stream, Handle::current()))
            };
            raw(call.await)
        }
        .into_ffi()
    }
}

impl RawBackend for BackendProxy {
    fn probe(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/probe", cx, request)
    }

    fn create(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/create", cx, request)
    }

    fn start(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/start", cx, request)
    }

    fn stop(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/stop", cx, request)
    }

    fn delete(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/delete", cx, request)
    }

    fn inspect(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/inspect", cx, request)
    }

    fn list(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/list", cx, request)
    }

    fn refresh(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/refresh", cx, request)
    }

    fn connect(&self, cx: CallCx, request: Doc) -> StreamAnswer {
        self.stream("/backend/connect", cx, request)
    }

    fn watch(&self, cx: CallCx, request: Doc) -> StreamAnswer {
        self.stream("/backend/watch", cx, request)
    }

    fn shutdown(&self, cx: CallCx, request: Doc) -> Answer {
        self.call("/backend/shutdown", cx, request)
    }
}

/// An agent in a process of its own. Its methods block; the driver calls them on threads that may.
pub(in crate::plugin) struct AgentProxy(Shared);

#[derive(Clone)]
struct Shared {
    process: Arc<Process>,
    runtime: Handle,
    tasks: TaskTracker,
}

impl Shared {
    fn wait<T>(&self, call: impl Future<Output = Result<T>>) -> RResult<T, Fault> {
        let limited = async {
            timeout(AGENT_LIMIT, call).await.unwrap_or_else(|_| {
                Err(Error::new(
                    Code::Deadline,
                    "the plugin's process does not answer",
                ))
            })
        };
        raw(self.runtime.block_on(limited))
    }

    fn ask(&self, path: &'static str, request: Doc) -> RResult<Doc, Fault> {
        self.wait(async {
            let connection = self.process.connection().await?;
            let answer = connection.ask(path, None, bytes(request)).await?;
            Ok(document(&answer))
        })
    }
}

impl AgentProxy {
    /// Has to be called within the server's runtime.
    pub(in crate::plugin) fn object(process: Arc<Process>) -> RawAgentObject {
        let shared = Shared {
            process,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
        };
        RawAgent_TO::from_value(Self(shared), TD_Opaque)
    }
}

impl RawAgent for AgentProxy {
    fn launch(&self, request: Doc) -> RResult<Doc, Fault> {
        self.0.ask("/agent/launch", request)
    }

    fn deliver(&self, request: Doc) -> RResult<Doc, Fault> {
        self.0.ask("/agent/deliver", request)
    }

    fn decoder(&self, request: Doc) -> RResult<RawDecoderObject, Fault> {
        self.0.wait(async {
            let connection = self.0.process.connection().await?;
            let answer = connection
                .ask("/agent/decoder", None, bytes(request))
                .await?;
            let id: DecoderId = serde_json::from_slice(&answer).map_err(Error::internal)?;
            let proxy = DecoderProxy {
                shared: self.0.clone(),
                connection,
                id: id.decoder,
            };
            Ok(RawDecoder_TO::from_value(proxy, TD_Opaque))
        })
    }
}

/// A decoder in another process; it is gone when that process is.
struct DecoderProxy {
    shared: Shared,
    connection: Connection,
    id: u64,
}

impl RawDecoder for DecoderProxy {
    fn feed(&mut self, source: u32, input: RSlice<'_, u8>) -> RResult<Doc, Fault> {
        let path = format!("/agent/feed?decoder={}&source={source}", self.id);
        let input = Bytes::copy_from_slice(input.as_slice());
        self.shared.wait(async {
            let answer = self.connection.ask(&path, None, input).await?;
            Ok(document(&answer))
        })
    }

    fn state(&self) -> RResult<Doc, Fault> {
        let path = format!("/agent/state?decoder={}", self.id);
        self.shared.wait(async {
            let answer = self.connection.ask(&path, None, Bytes::new()).await?;
            Ok(document(&answer))
        })
    }
}

impl Drop for DecoderProxy {
    fn drop(&mut self) {
        let connection = self.connection.clone();
        let path = format!("/agent/forget?decoder={}", self.id);
        let forget = async move {
            // Where the process is gone, so is the decoder.
            connection.ask(&path, None, Bytes::new()).await.ok();
        };
        self.shared.tasks.spawn_on(forget, &self.shared.runtime);
    }
}
