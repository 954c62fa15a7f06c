//! What both ends say to each other, and how.

use berth_plugin_api::doc::Progress;
use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uuid::Uuid;

/// What one stream may hold unread.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
/// Well above what the streams of a few hundred sessions hold, so that none waits for another.
pub(super) const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// No document is larger.
const DOCUMENT_LIMIT: usize = 64 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// The header with the id of a call.
pub(super) const REQUEST_ID: &str = "request-id";
/// The header with its time limit.
pub(super) const TIME_LIMIT: &str = "time-limit-ms";

/// What the plugin tells the host by itself: a line of JSON each, on the answer to `/host`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HostLine {
    /// A line for the log.
    Log {
        level: u32,
        target: String,
        message: String,
        fields: String,
    },
    /// How a call goes.
    Progress {
        request_id: Uuid,
        progress: Progress,
    },
}

/// Which decoder, in the path of a request about one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct DecoderId {
    pub(super) decoder: u64,
    #[serde(default)]
    pub(super) source: u32,
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

/// The next piece of a body; `None` at its end.
async fn next(body: &mut RecvStream) -> Option<io::Result<Bytes>> {
    let piece = poll_fn(|cx| body.poll_data(cx)).await?;
    Some(piece.map_err(broken).inspect(|bytes| {
        // Where the stream is gone, so is its window.
        body.flow_control().release_capacity(bytes.len()).ok();
    }))
}

/// All of a body.
pub(super) async fn read_all(body: &mut RecvStream) -> io::Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(piece) = next(body).await {
        whole.extend_from_slice(&piece?);
        if whole.len() > DOCUMENT_LIMIT {
            return Err(broken("a document of more than 64 MiB"));
        }
    }
    Ok(whole.freeze())
}

/// Sends all of `bytes`, as the other end makes room; `end`: nothing follows.
pub(super) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    end: bool,
) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len().min(PIECE));
        let room = poll_fn(|cx| poll_room(stream, cx)).await?;
        let piece = bytes.split_to(room.min(bytes.len()));
        let last = end && bytes.is_empty();
        stream.send_data(piece, last).map_err(broken)?;
        if last {
            return Ok(());
        }
    }
    if end {
        stream.send_data(Bytes::new(), true).map_err(broken)?;
    }
    Ok(())
}

/// How much may be sent now of what was reserved. h2's own poll tells increases only.
fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match stream.capacity() {
        0 => match ready!(stream.poll_capacity(cx)) {
            Some(Ok(room)) => Poll::Ready(Ok(room)),
            Some(Err(error)) => Poll::Ready(Err(broken(error))),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        },
        room => Poll::Ready(Ok(room)),
    }
}

/// Lines of a body.
pub(super) struct Lines {
    body: RecvStream,
    held: BytesMut,
}

impl Lines {
    pub(super) fn new(body: RecvStream) -> Self {
        Self {
            body,
            held: BytesMut::new(),
        }
    }

    /// The next line, with its end; `None` at the end of all.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                return Some(self.held.split_to(end + 1).freeze());
            }
            let piece = next(&mut self.body).await?.ok()?;
            if self.held.len() + piece.len() > DOCUMENT_LIMIT {
                return None;
            }
            self.held.extend_from_slice(&piece);
        }
    }
}

/// Takes a document off the front of a body, after its length; the rest stays in the body.
pub(super) async fn read_framed(body: &mut RecvStream) -> io::Result<(Bytes, Bytes)> {
    let mut held = BytesMut::new();
    let mut length = None;
    loop {
        if length.is_none() && held.len() >= 4 {
            length = Some(usize::try_from(held.get_u32()).map_err(broken)?);
        }
        if let Some(length) = length
            && held.len() >= length
        {
            let document = held.split_to(length).freeze();
            return Ok((document, held.freeze()));
        }
        if held.len() > DOCUMENT_LIMIT {
            return Err(broken("a document of more than 64 MiB"));
        }
        match next(body).await {
            Some(piece) => held.extend_from_slice(&piece?),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The length of a document, and the document.
pub(super) fn framed(document: &[u8]) -> io::Result<Bytes> {
    let length = u32::try_from(document.len()).map_err(broken)?;
    let mut framed = BytesMut::with_capacity(4 + document.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(document);
    Ok(framed.freeze())
}

/// The two bodies of one request as a byte stream. Dropping it resets what has not ended.
pub(super) struct Pipe {
    send: SendStream<Bytes>,
    ended: bool,
    receive: RecvStream,
    rest: Bytes,
}

impl Pipe {
    /// `rest` was received already.
    pub(super) fn new(send: SendStream<Bytes>, receive: RecvStream, rest: Bytes) -> Self {
        Self {
            send,
            ended: false,
            receive,
            rest,
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        // Room is made as the reader takes it, so that a slow reader slows the writer.
        self.receive.flow_control().release_capacity(count).ok();
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
        self.send.reserve_capacity(bytes.len().min(PIECE));
        let room = ready!(poll_room(&mut self.send, cx))?;
        let count = room.min(bytes.len());
        self.send
            .send_data(Bytes::copy_from_slice(&bytes[..count]), false)
            .map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            // Where the other end is gone, there is nobody to tell.
            self.send.send_data(Bytes::new(), true).ok();
        }
        Poll::Ready(Ok(()))
    }
}
