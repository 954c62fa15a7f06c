//! An author's stream as it crosses.

use super::document::raw;
use super::guard::catch;
use crate::raw::{Fault, RawStream, RawStream_TO, RawStreamObject};
use crate::{Code, Error, Result, Stream};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RResult, RSlice, RSliceMut};
use async_ffi::{FfiContext, FfiPoll};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

/// Polls the author's stream inside the library's runtime, and guards each poll. After a panic it is not polled again.
pub(crate) struct StreamShell {
    stream: Option<Stream>,
    runtime: Handle,
}

impl StreamShell {
    /// The stream as the host holds it.
    pub(crate) fn object(stream: Stream, runtime: Handle) -> RawStreamObject {
        let shell = Self {
            stream: Some(stream),
            runtime,
        };
        RawStream_TO::from_value(shell, TD_Opaque)
    }

    fn poll<T>(
        &mut self,
        cx: &mut FfiContext<'_>,
        work: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<std::io::Result<T>>,
    ) -> FfiPoll<RResult<T, Fault>> {
        let _entered = self.runtime.enter();
        let stream = &mut self.stream;
        let polled = catch(|| {
            let stream = stream
                .as_mut()
                .ok_or_else(|| Error::new(Code::Panic, "the stream panicked before"))?;
            Ok(cx.with_context(|cx| work(Pin::new(stream), cx)))
        });
        match polled {
            Ok(Poll::Pending) => FfiPoll::Pending,
            Ok(Poll::Ready(outcome)) => FfiPoll::Ready(raw(outcome.map_err(Error::from))),
            Err(error) => {
                self.close();
                FfiPoll::Ready(raw(Err(error)))
            }
        }
    }

    fn close(&mut self) {
        let stream = self.stream.take();
        let _: Result<()> = catch(|| {
            drop(stream);
            Ok(())
        });
    }
}

impl Drop for StreamShell {
    fn drop(&mut self) {
        let runtime = self.runtime.clone();
        let _entered = runtime.enter();
        self.close();
    }
}

impl RawStream for StreamShell {
    fn poll_read(
        &mut self,
        cx: &mut FfiContext<'_>,
        mut buffer: RSliceMut<'_, u8>,
    ) -> FfiPoll<RResult<usize, Fault>> {
        self.poll(cx, |stream, cx| {
            let mut buffer = ReadBuf::new(buffer.as_mut_slice());
            stream
                .poll_read(cx, &mut buffer)
                .map_ok(|()| buffer.filled().len())
        })
    }

    fn poll_write(
        &mut self,
        cx: &mut FfiContext<'_>,
        bytes: RSlice<'_, u8>,
    ) -> FfiPoll<RResult<usize, Fault>> {
        self.poll(cx, |stream, cx| stream.poll_write(cx, bytes.as_slice()))
    }

    fn poll_flush(&mut self, cx: &mut FfiContext<'_>) -> FfiPoll<RResult<(), Fault>> {
        self.poll(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(&mut self, cx: &mut FfiContext<'_>) -> FfiPoll<RResult<(), Fault>> {
        self.poll(cx, AsyncWrite::poll_shutdown)
    }
}
