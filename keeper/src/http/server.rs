//! One connection.

use super::Answer;
use super::route::Call;
use crate::keeper::Keeper;
use bytes::Bytes;
use h2::server::Builder;
use h2::{Ping, PingPong, RecvStream};
use http::Request;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A connection that does not greet is cut: it would be there for ever.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// What one stream may send ahead of what is done with it.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What is held of what a stream sends: this and the reader's window is all that an interrupted program leaves behind.
const SEND_BUFFER: usize = 64 * 1024;
const STREAM_LIMIT: u32 = 1024;
/// Typing is a frame a key: that is no attack.
const SMALL_FRAME_BUDGET: usize = 16 * 1024 * 1024;
/// A host that was cut off without a word holds descriptors and execs here, so it is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Serves one connection to its end. Dropping it ends what is asked on it.
pub(crate) async fn serve(keeper: Rc<Keeper>, stream: UnixStream) {
    let greeting = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(STREAM_LIMIT)
        .data_frame_budget(SMALL_FRAME_BUDGET)
        // Asking and giving up is a right of the host's, however often.
        .max_pending_accept_reset_streams(STREAM_LIMIT as usize)
        .max_local_error_reset_streams(None)
        .handshake::<_, Bytes>(stream);
    let Ok(Ok(mut connection)) = timeout(GREETING_LIMIT, greeting).await else {
        return;
    };
    let lost = watch_over(connection.ping_pong());
    let mut lost = std::pin::pin!(lost);
    let typing = Rc::new(Mutex::new(()));
    let mut handlers = JoinSet::new();
    let mut ending = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let call = Call {
                        keeper: Rc::clone(&keeper),
                        answer: Answer::new(respond),
                        typing: Rc::clone(&typing),
                    };
                    handlers.spawn_local(handle(call, request));
                }
                Some(Err(_)) | None => return,
            },
            Some(_) = handlers.join_next() => {}
            () = keeper.closing.cancelled(), if !ending => {
                ending = true;
                connection.graceful_shutdown();
            }
            () = &mut lost => return,
        }
    }
}

async fn handle(call: Call, request: Request<RecvStream>) {
    let answer = call.answer.clone();
    let result = tokio::select! {
        biased;
        () = poll_fn(|cx| answer.poll_gone(cx)) => return,
        result = call.route(request) => result,
    };
    if let Err(refusal) = result {
        answer.refuse(refusal);
    }
}

/// Ends when the other side answers no ping any more.
async fn watch_over(pings: Option<PingPong>) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        sleep(PING_INTERVAL).await;
        match timeout(PING_INTERVAL, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}
