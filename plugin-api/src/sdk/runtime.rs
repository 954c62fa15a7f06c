//! The library's own Tokio runtime: Tokio's context does not cross from the host's copy of it.

use super::document::raw;
use super::guard::{catch_async, error_of};
use crate::raw::Fault;
use crate::{Code, Error, Result};
use abi_stable::std_types::RResult;
use async_ffi::{FfiFuture, FutureExt};
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinError};

/// Never dropped: the library is never unloaded, and what runs on it ends with the process.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

const DEFAULT_WORKER_THREADS: usize = 2;

tokio::task_local! {
    /// The call that this work is for, as its log lines name it.
    pub(super) static REQUEST: [u8; 16];
}

/// The runtime's handle; the first call makes the runtime.
pub(super) fn start(name: &str, worker_threads: usize) -> Result<Handle> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = runtime.as_ref() {
        return Ok(runtime.handle().clone());
    }
    let worker_threads = match worker_threads {
        0 => DEFAULT_WORKER_THREADS,
        more => more,
    };
    // Linux keeps 15 characters of a thread's name.
    let thread_name: String = format!("plug-{name}").chars().take(15).collect();
    let made = Builder::new_multi_thread()
        .worker_threads(worker_threads)
        .thread_name(thread_name)
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("the plugin's runtime: {error}")))?;
    let handle = made.handle().clone();
    *runtime = Some(made);
    Ok(handle)
}

/// Aborts a task when dropped.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `work` on the library's runtime, on behalf of a call. Dropping the answer aborts it.
pub(super) fn answer<T: Send + 'static>(
    runtime: &Handle,
    request_id: [u8; 16],
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> FfiFuture<RResult<T, Fault>> {
    let task = runtime.spawn(REQUEST.scope(request_id, catch_async(work)));
    let guard = AbortOnDrop(task.abort_handle());
    async move {
        let outcome = task.await;
        drop(guard);
        raw(outcome.unwrap_or_else(|error| Err(join_error(error))))
    }
    .into_ffi()
}

fn join_error(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(payload) => error_of(payload),
        Err(_) => Error::new(Code::Cancelled, "the call was given up"),
    }
}
