//! Answering one request.

use super::Refusal;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Response, StatusCode};
use serde::Serialize;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// What is handed to the transport at once: small, so that other streams get their turn.
pub(crate) const PIECE: usize = 16 * 1024;

/// The one who asked does not listen any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// The way back to the one who asked. Clones are of the same answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer(Rc<RefCell<State>>);

#[derive(Debug)]
enum State {
    Waiting(SendResponse<Bytes>),
    Sending(SendStream<Bytes>),
    Over,
}

impl Answer {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Rc::new(RefCell::new(State::Waiting(respond))))
    }

    /// Ends when the one who asked has gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let gone = match &mut *self.0.borrow_mut() {
            State::Waiting(respond) => ready!(respond.poll_reset(cx)).map(drop),
            State::Sending(stream) => ready!(stream.poll_reset(cx)).map(drop),
            State::Over => return Poll::Pending,
        };
        // An error is the connection's end.
        gone.ok();
        Poll::Ready(())
    }

    /// Begins a body.
    pub(crate) fn begin(&self, headers: &[(&'static str, u64)]) -> Result<(), Gone> {
        self.head(StatusCode::OK, headers)
    }

    fn head(&self, status: StatusCode, headers: &[(&'static str, u64)]) -> Result<(), Gone> {
        let mut state = self.0.borrow_mut();
        let State::Waiting(respond) = &mut *state else {
            return Err(Gone);
        };
        let mut head = Response::new(());
        *head.status_mut() = status;
        for (name, value) in headers {
            head.headers_mut().insert(*name, (*value).into());
        }
        *state = match respond.send_response(head, false) {
            Ok(stream) => State::Sending(stream),
            Err(_) => return Err(Gone),
        };
        Ok(())
    }

    /// Answers with a document.
    pub(super) fn document(&self, document: &impl Serialize) {
        self.whole(StatusCode::OK, document);
    }

    /// Says no; where a body was begun, it is cut off.
    pub(super) fn refuse(&self, refusal: Refusal) {
        if matches!(&*self.0.borrow(), State::Waiting(_)) {
            self.whole(refusal.status(), &refusal.document());
        } else {
            self.reset(Reason::INTERNAL_ERROR);
        }
    }

    fn whole(&self, status: StatusCode, document: &impl Serialize) {
        let document = serde_json::to_vec(document).unwrap_or_default();
        if self.head(status, &[]).is_ok() {
            self.finish(document.into());
        }
    }

    /// Waits for room to send up to `want` bytes; answers how many.
    pub(crate) async fn room(&self, want: usize) -> Result<usize, Gone> {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            let State::Sending(stream) = &mut *state else {
                return Poll::Ready(Err(Gone));
            };
            let want = want.min(PIECE);
            stream.reserve_capacity(want);
            // The transport's poll tells increases only, and would wait for ever for room that is there.
            let room = match stream.capacity() {
                0 => match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
                },
                room => room,
            };
            if room == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(room.min(want)))
        })
        .await
    }

    /// Sends bytes for which there is room.
    pub(crate) fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        match &mut *self.0.borrow_mut() {
            State::Sending(stream) => stream.send_data(bytes, false).map_err(|_| Gone),
            _ => Err(Gone),
        }
    }

    /// Sends all of it, as room is made.
    pub(crate) async fn send_all(&self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = self.room(bytes.len()).await?;
            self.send(bytes.split_to(room))?;
        }
        Ok(())
    }

    /// Sends the last bytes, and the end.
    pub(crate) fn finish(&self, bytes: Bytes) {
        if let State::Sending(mut stream) = self.0.replace(State::Over) {
            stream.send_data(bytes, true).ok();
        }
    }

    /// Cuts the body off.
    pub(crate) fn reset(&self, reason: Reason) {
        if let State::Sending(mut stream) = self.0.replace(State::Over) {
            stream.send_reset(reason);
        }
    }
}
