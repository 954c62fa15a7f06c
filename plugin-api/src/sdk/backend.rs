//! An author's backend as it crosses.

use super::document::{decode, encode};
use super::guard::catch;
use super::runtime::{answer, start};
use super::watch::watch;
use super::{StreamShell, log};
use crate::doc::{OpenRequest, Progress};
use crate::raw::{
    Answer, CallCx, Doc, Fault, RawBackend, RawBackend_TO, RawBackendObject, RawHostObject,
    StreamAnswer,
};
use crate::{Backend, Cx, Result};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RErr, RResult};
use async_ffi::{FfiFuture, FutureExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

struct BackendShell<B> {
    backend: Arc<B>,
    host: Arc<RawHostObject>,
    runtime: Handle,
}

/// Opens `B` on the library's runtime. A `library` of its own leads its log to the host; what is linked into the
/// host's program logs there anyway.
pub fn open<B: Backend>(
    name: &str,
    host: RawHostObject,
    request: &Doc,
    library: bool,
) -> FfiFuture<RResult<RawBackendObject, Fault>> {
    let host = Arc::new(host);
    let prepared = catch(|| {
        let request: OpenRequest = decode(request)?;
        if library {
            log::install(&host, &request.log_level);
        }
        Ok((start(name, request.worker_threads)?, request))
    });
    let (runtime, request) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return async move { RErr(error.into()) }.into_ffi(),
    };
    answer(&runtime.clone(), [0; 16], async move {
        let backend = Arc::new(B::open(request).await?);
        let shell = BackendShell {
            backend,
            host,
            runtime,
        };
        Ok(RawBackend_TO::from_value(shell, TD_Opaque))
    })
}

impl<B: Backend> BackendShell<B> {
    fn cx(&self, cx: CallCx) -> Cx {
        let time_limit = (cx.time_limit_ms > 0).then(|| Duration::from_millis(cx.time_limit_ms));
        let host = Arc::clone(&self.host);
        let tell = move |progress: Progress| {
            if let Ok(progress) = encode(&progress) {
                host.notify(&cx.request_id, progress);
            }
        };
        Cx::new(cx.request_id, time_limit, Some(Arc::new(tell)))
    }

    /// Decodes, runs and encodes, all on the library's runtime.
    fn call<Q, A, F>(
        &self,
        cx: CallCx,
        request: Doc,
        operation: impl FnOnce(Arc<B>, Cx, Q) -> F + Send + 'static,
    ) -> Answer
    where
        Q: DeserializeOwned,
        A: Serialize,
        F: Future<Output = Result<A>> + Send,
    {
        let backend = Arc::clone(&self.backend);
        let context = self.cx(cx);
        answer(&self.runtime, cx.request_id, async move {
            let future = operation(backend, context, decode(&request)?);
            encode(&future.await?)
        })
    }
}

impl<B: Backend> RawBackend for BackendShell<B> {
    fn probe(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(
            cx,
            request,
            |backend, cx, _: serde_json::Value| async move { backend.probe(&cx).await },
        )
    }

    fn create(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, cx, request| async move {
            backend.create(&cx, request).await
        })
    }

    fn start(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, cx, request| async move {
            backend.start(&cx, request).await
        })
    }

    fn stop(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, cx, request| async move {
            backend.stop(&cx, request).await
        })
    }

    fn delete(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, cx, request| async move {
            backend.delete(&cx, request).await
        })
    }

    fn inspect(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, cx, request| async move {
            backend.inspect(&cx, request).await
        })
    }

    fn list(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, cx, request| async move {
            backend.list(&cx, request).await
        })
    }

    fn refresh(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, cx, request| async move {
            backend.refresh(&cx, request).await
        })
    }

    fn connect(&self, cx: CallCx, request: Doc) -> StreamAnswer {
        let backend = Arc::clone(&self.backend);
        let context = self.cx(cx);
        let runtime = self.runtime.clone();
        answer(&self.runtime, cx.request_id, async move {
            let stream = backend.connect(&context, decode(&request)?).await?;
            Ok(StreamShell::object(stream, runtime))
        })
    }

    fn watch(&self, cx: CallCx, request: Doc) -> StreamAnswer {
        let backend = Arc::clone(&self.backend);
        let context = self.cx(cx);
        let runtime = self.runtime.clone();
        answer(&self.runtime, cx.request_id, async move {
            let stream = watch(backend, context, decode(&request)?, &runtime).await?;
            Ok(StreamShell::object(stream, runtime))
        })
    }

    fn shutdown(&self, cx: CallCx, request: Doc) -> Answer {
        self.call(cx, request, |backend, _, _: serde_json::Value| async move {
            backend.shutdown().await;
            Ok(())
        })
    }
}
