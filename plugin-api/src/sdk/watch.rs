//! What a watching backend tells, as lines of JSON on a stream. The host's pace is the backend's: little is held.

use super::guard::catch_async;
use super::runtime::{AbortOnDrop, REQUEST};
use crate::doc::{WatchEvent, WatchRequest};
use crate::{Backend, Cx, Error, Result, Stream, WatchSink};
use serde::{Deserialize, Serialize};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// One line of a watch's stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchLine {
    /// A place changed.
    Event(WatchEvent),
    /// Watching ended with this; no line follows.
    Error(Error),
}

/// Starts watching. An error that comes at once, as of a backend that cannot watch, is the answer.
pub(super) async fn watch<B: Backend>(
    backend: Arc<B>,
    cx: Cx,
    request: WatchRequest,
    runtime: &Handle,
) -> Result<Stream> {
    let (sink, events) = WatchSink::channel();
    let request_id = cx.request_id();
    let mut work = Box::pin(catch_async(async move {
        backend.watch(&cx, request, sink).await
    }));
    let first = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    if let Poll::Ready(Err(error)) = first {
        return Err(error);
    }
    let (done, end) = oneshot::channel();
    let task = runtime.spawn(REQUEST.scope(request_id, async move {
        let outcome = match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => work.await,
        };
        let _ = done.send(outcome);
    }));
    let lines = WatchLines {
        events,
        end: Some(end),
        line: Vec::new(),
        written: 0,
        _task: AbortOnDrop(task.abort_handle()),
    };
    Ok(Stream::join(lines, tokio::io::sink()))
}

struct WatchLines {
    events: mpsc::Receiver<WatchEvent>,
    end: Option<oneshot::Receiver<Result<()>>>,
    line: Vec<u8>,
    written: usize,
    _task: AbortOnDrop,
}

impl WatchLines {
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchLine>> {
        if let Some(event) = ready!(self.events.poll_recv(cx)) {
            return Poll::Ready(Some(WatchLine::Event(event)));
        }
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        let outcome = ready!(Pin::new(end).poll(cx));
        self.end = None;
        Poll::Ready(match outcome {
            Ok(Err(error)) => Some(WatchLine::Error(error)),
            Ok(Ok(())) | Err(_) => None,
        })
    }
}

impl AsyncRead for WatchLines {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.written == self.line.len() {
            let Some(line) = ready!(self.poll_line(cx)) else {
                return Poll::Ready(Ok(()));
            };
            self.line.clear();
            self.written = 0;
            serde_json::to_writer(&mut self.line, &line).map_err(std::io::Error::other)?;
            self.line.push(b'\n');
        }
        let rest = &self.line[self.written..];
        let part = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..part]);
        self.written += part;
        Poll::Ready(Ok(()))
    }
}
