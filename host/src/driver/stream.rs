//! A plugin's stream as the server reads and writes it.

use abi_stable::std_types::{RErr, ROk, RResult, RSlice, RSliceMut};
use async_ffi::{ContextExt, FfiContext, FfiPoll};
use berth_plugin_api::raw::{Fault, RawStreamObject};
use berth_plugin_api::{Code, Error, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Wraps a plugin's stream; dropping it closes it.
pub(crate) fn stream_of(raw: RawStreamObject) -> Stream {
    Stream::new(PluginStream(Box::new(raw)))
}

/// Boxed, so that it can be moved while it is polled.
struct PluginStream(Box<RawStreamObject>);

impl PluginStream {
    fn poll<T>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut RawStreamObject, &mut FfiContext<'_>) -> FfiPoll<RResult<T, Fault>>,
    ) -> Poll<io::Result<T>> {
        match cx.with_ffi_context(|cx| work(&mut self.0, cx)) {
            FfiPoll::Pending => Poll::Pending,
            FfiPoll::Ready(ROk(value)) => Poll::Ready(Ok(value)),
            FfiPoll::Ready(RErr(fault)) => Poll::Ready(Err(io::Error::other(Error::from(fault)))),
            FfiPoll::Panicked => Poll::Ready(Err(io::Error::other(Error::new(
                Code::Panic,
                "the plugin's stream panicked",
            )))),
        }
    }
}

/// A count that a plugin told, which must not exceed what it was given.
fn within(count: usize, limit: usize) -> io::Result<usize> {
    if count <= limit {
        return Ok(count);
    }
    Err(io::Error::other(Error::internal(format!(
        "the plugin's stream says {count} bytes of {limit}"
    ))))
}

impl AsyncRead for PluginStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buffer.initialize_unfilled();
        let limit = unfilled.len();
        let polled = self.poll(cx, |raw, cx| {
            raw.poll_read(cx, RSliceMut::from_mut_slice(unfilled))
        });
        polled.map(|outcome| {
            buffer.advance(within(outcome?, limit)?);
            Ok(())
        })
    }
}

impl AsyncWrite for PluginStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |raw, cx| raw.poll_write(cx, RSlice::from_slice(bytes)))
            .map(|outcome| within(outcome?, bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, RawStreamObject::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, RawStreamObject::poll_shutdown)
    }
}
