//! Reading and writing the bodies of requests.

use super::KeeperError;
use super::connection::Lease;
use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use tokio::task::coop::poll_proceed;

/// Documents are small; a keeper that sends more than this is broken.
const DOCUMENT_LIMIT: usize = 1 << 20;
/// What is handed to the transport at once.
const PIECE: usize = 16 * 1024;

/// What the keeper sends. Room for more is made only when the next piece is asked for.
#[derive(Debug)]
pub(super) struct Body {
    stream: RecvStream,
    unreleased: usize,
    lease: Lease,
}

impl Body {
    pub(super) fn new(stream: RecvStream, lease: Lease) -> Self {
        Self {
            stream,
            unreleased: 0,
            lease,
        }
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, KeeperError>>> {
        if self.unreleased > 0 {
            // A stream that was reset takes no window back; its error comes with the data.
            self.stream
                .flow_control()
                .release_capacity(std::mem::take(&mut self.unreleased))
                .ok();
        }
        // A flood is always ready, and would keep whatever else its task waits for from ever being looked at.
        let turn = ready!(poll_proceed(cx));
        let bytes = loop {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => break Some(Ok(bytes)),
                Some(Err(error)) => break Some(Err(self.lease.explain(error))),
                None => break None,
            }
        };
        turn.made_progress();
        if let Some(Ok(bytes)) = &bytes {
            self.unreleased = bytes.len();
        }
        Poll::Ready(bytes)
    }

    /// The next bytes; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, KeeperError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// All of it, which must be small.
    pub(super) async fn document(mut self) -> Result<Bytes, KeeperError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > DOCUMENT_LIMIT {
                return Err(KeeperError::malformed("a document of more than 1 MiB"));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// Joins the pieces of a body to frames.
#[derive(Debug)]
pub(super) struct Frames {
    body: Body,
    held: BytesMut,
}

impl Frames {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            held: BytesMut::new(),
        }
    }

    /// Waits until `length` bytes are held; false at a clean end. Cancel safe: nothing is taken out.
    pub(super) async fn fill(&mut self, length: usize) -> Result<bool, KeeperError> {
        while self.held.len() < length {
            match self.body.next().await {
                Some(piece) => self.held.extend_from_slice(&piece?),
                None if self.held.is_empty() => return Ok(false),
                None => return Err(KeeperError::malformed("a frame that was cut off")),
            }
        }
        Ok(true)
    }

    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes bytes that [`Frames::fill`] has waited for.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        self.held.split_to(length).freeze()
    }
}

/// Sends all of `bytes`, as the keeper makes room.
pub(super) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    lease: &Lease,
) -> Result<(), KeeperError> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len().min(PIECE));
        let room = poll_fn(|cx| poll_room(stream, cx)).await;
        let room = room
            .ok_or_else(|| KeeperError::lost("the keeper takes no more"))?
            .map_err(|error| lease.explain(error))?;
        let piece = bytes.split_to(room.min(bytes.len()));
        stream
            .send_data(piece, false)
            .map_err(|error| lease.explain(error))?;
    }
    Ok(())
}

/// How much may be sent now of what was reserved. The transport's own poll tells increases only, and would wait for ever
/// where the room was there before.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<usize, h2::Error>>> {
    match stream.capacity() {
        0 => stream.poll_capacity(cx),
        room => Poll::Ready(Some(Ok(room))),
    }
}
