//! A request's two bodies as one byte stream.

use super::body::{Body, poll_room};
use bytes::{Buf as _, Bytes};
use h2::SendStream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PIECE: usize = 16 * 1024;

/// Reads the answer, writes the request.
#[derive(Debug)]
pub(super) struct Pipe {
    input: SendStream<Bytes>,
    input_ended: bool,
    body: Body,
    rest: Bytes,
}

impl Pipe {
    pub(super) fn new(input: SendStream<Bytes>, body: Body) -> Self {
        Self {
            input,
            input_ended: false,
            body,
            rest: Bytes::new(),
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.body.poll_next(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.input.reserve_capacity(bytes.len().min(PIECE));
        let room = match ready!(poll_room(&mut self.input, cx)) {
            Some(Ok(room)) => room,
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let count = room.min(bytes.len());
        self.input
            .send_data(Bytes::copy_from_slice(&bytes[..count]), false)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.input_ended, true) {
            // Where the other end is gone, there is nobody to tell.
            self.input.send_data(Bytes::new(), true).ok();
        }
        Poll::Ready(Ok(()))
    }
}
