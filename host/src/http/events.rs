//! A session's events over plain HTTP: pages, and the live stream as server-sent events.

use super::dto::{EventsPage, EventsQuery, Fault, LARGEST_PAGE, StreamQuery, page_size};
use super::error::ApiError;
use super::extract::{Query, SessionPath};
use super::state::AppState;
use crate::event::{Delivery, Subscription};
use crate::session::SessionKey;
use axum::extract::State;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, BytesMut};
use futures_util::stream::{self, Stream};
use http::{HeaderMap, HeaderName, header};
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A comment line that often, so that proxies keep a quiet stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(page))
        .routes(routes!(stream_events))
}

/// A session's events, oldest first
#[utoipa::path(get, path = "/api/sessions/{id}/events", tag = "events",
    params(("id" = String, Path, description = "Id or name"), EventsQuery),
    responses((status = 200, body = EventsPage), (status = "default", body = Fault)))]
async fn page(
    State(state): State<AppState>,
    SessionPath(path): SessionPath,
    Query(query): Query<EventsQuery>,
) -> Result<Response, ApiError> {
    let limit = page_size(query.limit.unwrap_or(LARGEST_PAGE))?;
    let limit = usize::try_from(limit).map_err(ApiError::internal)?;
    let core = state.core().await?;
    let key = SessionKey::parse(&path);
    let page = core.sessions.events(&key, query.after, limit).await?;
    // The events are JSON already.
    let mut body = BytesMut::from(&br#"{"events":["#[..]);
    for (index, event) in page.events.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.extend_from_slice(&event.json);
    }
    let next = page
        .next_after
        .map_or_else(|| "null".to_owned(), |seq| seq.to_string());
    body.extend_from_slice(format!(r#"],"next_after":{next}}}"#).as_bytes());
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, body.freeze()).into_response())
}

/// A session's events as server-sent events
///
/// Each `data` is a message as on `/ws/events`, `subscribed` first; `id` is the event's `seq`. A client that does not keep
/// up is cut off, and resumes by `Last-Event-ID`.
#[utoipa::path(get, path = "/api/sessions/{id}/events/stream", tag = "events",
    params(("id" = String, Path, description = "Id or name"), StreamQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Replays from the next `seq` on")),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = "default", body = Fault)))]
async fn stream_events(
    State(state): State<AppState>,
    SessionPath(path): SessionPath,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = match headers.get(&LAST_EVENT_ID) {
        Some(id) => Some(
            id.to_str()
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| {
                    ApiError::invalid("the header Last-Event-ID must be the seq of an event")
                })?,
        ),
        None => query.after,
    };
    let core = state.core().await?;
    let key = SessionKey::parse(&path);
    let subscription = core.sessions.subscribe(&key, after).await?;
    let id = match key {
        SessionKey::Id(id) => id.to_string(),
        key => core.sessions.resolve(&key).await?.to_string(),
    };
    let first = json!({"type": "subscribed", "session_id": id, "seq": subscription.newest()});
    let events = follow(subscription, first.to_string(), state.shutdown().clone());
    let no_cache = [(header::CACHE_CONTROL, "no-store")];
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok((no_cache, sse).into_response())
}

/// What a stream is about to send.
enum Step {
    First(Subscription, String),
    Next(Subscription),
    End,
}

fn follow(
    subscription: Subscription,
    first: String,
    shutdown: CancellationToken,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    let begin = Step::First(subscription, first);
    stream::unfold((begin, shutdown), async |(step, shutdown)| {
        let mut subscription = match step {
            Step::First(subscription, first) => {
                let event = SseEvent::default().data(first);
                return Some((Ok(event), (Step::Next(subscription), shutdown)));
            }
            Step::Next(subscription) => subscription,
            Step::End => return None,
        };
        let delivery = tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            delivery = subscription.next() => delivery,
        };
        let event = match delivery {
            Ok(Delivery::Event(event)) => event,
            Ok(Delivery::Behind | Delivery::Closed) => return None,
            Err(error) => {
                ApiError::from(error).log();
                return None;
            }
        };
        let sent = SseEvent::default()
            .id(event.seq.to_string())
            .data(event.text());
        let step = if event.is_last() {
            Step::End
        } else {
            Step::Next(subscription)
        };
        Some((Ok(sent), (step, shutdown)))
    })
}
