//! Takes connections and serves them until told to stop.

use super::linger;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// How long a client may take to send a request's head, and how long a kept connection may be idle.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The largest request head; the buffer of a connection grows no further.
const HEAD_BYTES: usize = 64 * 1024;
/// How long to wait after a failed accept (no more file descriptors): nothing else helps but time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address of this end of the connection that a request came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalAddress(pub(super) SocketAddr);

/// A bound socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds; port 0 is any free one.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves until `shutdown` is cancelled, and returns once no connection is taken any more. Connections under way go on
/// as tasks of `tasks`, each until its answer is sent.
pub async fn serve(
    listener: Listener,
    router: Router,
    max_connections: usize,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = async {
                // The semaphore is never closed; a place is taken before the connection, so that waiting clients
                // stand in the kernel's queue.
                let place = Arc::clone(&places).acquire_owned().await.ok();
                (place, listener.0.accept().await)
            } => accepted,
        };
        match accepted {
            (Some(place), Ok((stream, _peer))) => {
                let router = router.clone();
                let shutdown = shutdown.clone();
                tasks.spawn(async move {
                    serve_connection(stream, router, shutdown).await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (None, Ok(_)) => return,
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, shutdown: CancellationToken) {
    // Small frames (keystrokes, events) must not wait for earlier ones to be acknowledged.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection without TCP_NODELAY");
    }
    let local = stream.local_addr().ok();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(local) = local {
            request.extensions_mut().insert(LocalAddress(local));
        }
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES);
    let (lent, returned) = linger::lend(stream);
    let ended = {
        let mut connection = pin!(
            builder
                .serve_connection(TokioIo::new(lent), service)
                .with_upgrades()
        );
        tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
    // An upgraded connection is with its socket's task until that ends.
    returned.close().await;
}
