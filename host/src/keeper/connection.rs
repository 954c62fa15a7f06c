//! One HTTP/2 connection to a keeper, and asking on it.

use super::body::{Body, send_all};
use super::{ANSWER_LIMIT, KeeperError};
use berth_keeper_protocol::Hello;
use berth_plugin_api::Stream;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What one stream may hold unread here. The output of a program that was interrupted waits in it, so it is small: at
/// 10 MB/s this is 13 ms.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Well above what all streams of a session together hold, so that none waits for another.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// What this side holds of what it sends, a stream.
const SEND_BUFFER: usize = 128 * 1024;
/// A program may write a byte at a time, each a frame, while its reader pauses: that is no attack.
const SMALL_FRAME_BUDGET: usize = 256 * 1024 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_LIMIT: Duration = Duration::from_secs(10);
const GREETING_LIMIT: Duration = Duration::from_secs(10);

/// A connection and the task that drives it, which ends with it.
#[derive(Debug)]
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    lease: Lease,
    closed: watch::Receiver<Option<KeeperError>>,
}

/// Keeps a connection's task alive: every stream of it holds one.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    closed: watch::Receiver<Option<KeeperError>>,
    _driver: std::sync::Arc<JoinSet<()>>,
}

impl Lease {
    /// The error of a stream, or of the connection where that is what ended it.
    pub(super) fn explain(&self, error: h2::Error) -> KeeperError {
        match (error.is_reset(), &*self.closed.borrow()) {
            (false, Some(reason)) => reason.clone(),
            _ => error.into(),
        }
    }
}

impl Connection {
    pub(super) async fn open(stream: Stream) -> Result<(Self, Hello), KeeperError> {
        timeout(GREETING_LIMIT, Self::greet(stream))
            .await
            .map_err(|_| KeeperError::TimedOut {
                route: "/v1/hello".to_owned(),
                limit: GREETING_LIMIT,
            })?
    }

    async fn greet(stream: Stream) -> Result<(Self, Hello), KeeperError> {
        let (requests, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(SMALL_FRAME_BUDGET)
            .max_local_error_reset_streams(None)
            .enable_push(false)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(KeeperError::lost)?;
        let pings = connection.ping_pong();
        let (tell, closed) = watch::channel(None);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let reason = tokio::select! {
                result = connection => match result {
                    Ok(()) => KeeperError::lost("the keeper closed it"),
                    Err(error) => KeeperError::lost(error),
                },
                reason = watch_over(pings) => reason,
            };
            tell.send_replace(Some(reason));
        });
        let connection = Self {
            requests,
            lease: Lease {
                closed: closed.clone(),
                _driver: std::sync::Arc::new(driver),
            },
            closed,
        };
        let hello: Hello = connection
            .ask(Method::GET, "/v1/hello", &(), ANSWER_LIMIT)
            .await?;
        if hello.protocol == 0 {
            return Err(KeeperError::malformed(
                "a greeting without a protocol version",
            ));
        }
        Ok((connection, hello))
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) async fn closed(&self) -> KeeperError {
        let mut closed = self.closed.clone();
        let reason = closed.wait_for(Option::is_some).await;
        reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_else(|| KeeperError::lost("its task was ended"))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// Sends the head of a request. `end`: it has no body.
    pub(super) async fn begin(
        &self,
        method: Method,
        path: &str,
        end: bool,
    ) -> Result<(SendStream<Bytes>, ResponseFuture), KeeperError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://keeper{path}"))
            .body(())
            .map_err(|error| KeeperError::Refused {
                code: "INVALID".to_owned(),
                message: error.to_string(),
            })?;
        let mut requests = self
            .requests
            .clone()
            .ready()
            .await
            .map_err(|error| self.lease.explain(error))?;
        let (answer, body) = requests
            .send_request(request, end)
            .map_err(|error| self.lease.explain(error))?;
        Ok((body, answer))
    }

    /// The body of a successful answer.
    pub(super) async fn accept(
        &self,
        route: &str,
        answer: ResponseFuture,
    ) -> Result<Body, KeeperError> {
        self.accept_head(route, answer).await.map(|(_, body)| body)
    }

    /// The head and body of a successful answer.
    pub(super) async fn accept_head(
        &self,
        route: &str,
        answer: ResponseFuture,
    ) -> Result<(http::response::Parts, Body), KeeperError> {
        let answer = answer.await.map_err(|error| self.lease.explain(error))?;
        let (head, body) = answer.into_parts();
        let body = Body::new(body, self.lease.clone());
        if head.status.is_success() {
            return Ok((head, body));
        }
        let reason = body.document().await.unwrap_or_default();
        Err(KeeperError::refusal(route, head.status, &reason))
    }

    /// Sends a document and reads a document, within a time limit.
    pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        question: &Q,
        limit: Duration,
    ) -> Result<A, KeeperError> {
        let route = path.split('?').next().unwrap_or(path);
        let asking = async {
            let bodiless = method == Method::GET;
            let (mut body, answer) = self.begin(method, path, bodiless).await?;
            if !bodiless {
                let question = serde_json::to_vec(question)
                    .map_err(|error| KeeperError::malformed(error.to_string()))?;
                self.finish(&mut body, question.into()).await.ok();
            }
            let answer = self.accept(route, answer).await?.document().await?;
            serde_json::from_slice(&answer)
                .map_err(|error| KeeperError::malformed(format!("an answer to {route}: {error}")))
        };
        timeout(limit, asking)
            .await
            .map_err(|_| KeeperError::TimedOut {
                route: route.to_owned(),
                limit,
            })?
    }

    /// Sends a document whose answer says nothing.
    pub(super) async fn tell<Q: Serialize>(&self, path: &str, what: &Q) -> Result<(), KeeperError> {
        let _: serde_json::Value = self.ask(Method::POST, path, what, ANSWER_LIMIT).await?;
        Ok(())
    }

    /// Sends raw bytes and waits, without limit, until they were taken.
    pub(super) async fn send(&self, path: &str, bytes: Bytes) -> Result<(), KeeperError> {
        let (mut body, answer) = self.begin(Method::POST, path, false).await?;
        let mut accepting = std::pin::pin!(self.accept(path, answer));
        let sent = tokio::select! {
            biased;
            refused = &mut accepting => return refused.map(|_| ()),
            sent = self.finish(&mut body, bytes) => sent,
        };
        match (accepting.await, sent) {
            (Ok(answer), Ok(())) => answer.document().await.map(|_| ()),
            (Err(refused), _) => Err(refused),
            (Ok(_), Err(error)) => Err(error),
        }
    }

    /// Sends the last bytes of a body, and its end.
    pub(super) async fn finish(
        &self,
        body: &mut SendStream<Bytes>,
        bytes: Bytes,
    ) -> Result<(), KeeperError> {
        // Small enough for the window of a new stream: then head, body and end leave together.
        if bytes.len() <= 16 * 1024 {
            return body
                .send_data(bytes, true)
                .map_err(|error| self.lease.explain(error));
        }
        send_all(body, bytes, &self.lease).await?;
        body.send_data(Bytes::new(), true)
            .map_err(|error| self.lease.explain(error))
    }
}

/// Ends when the keeper answers no ping any more.
async fn watch_over(pings: Option<PingPong>) -> KeeperError {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        sleep(PING_INTERVAL).await;
        match timeout(PING_LIMIT, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection itself ends too, and knows better why.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return KeeperError::lost("it answers no ping"),
        }
    }
}

/// A query string of these pairs.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}
