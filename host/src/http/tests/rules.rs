//! The rules of every route.

use super::{Server, fault};
use crate::http::{AppState, with_rules};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Method, path, body with its kind; status, code, message.
type Case<'a> = (
    &'a str,
    &'a str,
    Option<(&'a str, &'a str)>,
    u16,
    &'a str,
    &'a str,
);

#[tokio::test]
async fn faults_are_json_with_a_code_and_a_message() {
    let server = Server::start().await;
    let json = "application/json";
    let big = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(1024 * 1024));
    let cases: &[Case<'_>] = &[
        (
            "GET",
            "/nope",
            None,
            404,
            "NOT_FOUND",
            "there is nothing at /nope",
        ),
        (
            "GET",
            "/api/nope",
            None,
            404,
            "NOT_FOUND",
            "there is nothing at /api/nope",
        ),
        (
            "PUT",
            "/api/sessions",
            None,
            405,
            "METHOD_NOT_ALLOWED",
            "/api/sessions does not take PUT",
        ),
        (
            "POST",
            "/health",
            None,
            405,
            "METHOD_NOT_ALLOWED",
            "/health does not take POST",
        ),
        (
            "FROB",
            "/api/sessions",
            None,
            405,
            "METHOD_NOT_ALLOWED",
            "/api/sessions does not take FROB",
        ),
        (
            "POST",
            "/",
            None,
            405,
            "METHOD_NOT_ALLOWED",
            "/ does not take POST",
        ),
        (
            "POST",
            "/ws/events",
            None,
            405,
            "METHOD_NOT_ALLOWED",
            "/ws/events does not take POST",
        ),
        (
            "POST",
            "/api/sessions",
            None,
            400,
            "INVALID_REQUEST",
            "the body is empty; a JSON object is expected",
        ),
        (
            "POST",
            "/api/sessions",
            Some((json, "{")),
            400,
            "INVALID_REQUEST",
            "malformed JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "POST",
            "/api/sessions",
            Some((json, "{\"a\nb\":1}")),
            400,
            "INVALID_REQUEST",
            "malformed JSON: control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0",
        ),
        (
            "POST",
            "/api/sessions",
            Some((json, "[]")),
            400,
            "INVALID_REQUEST",
            "the body is wrong: a JSON object is expected, got a list",
        ),
        (
            "POST",
            "/api/sessions",
            Some((json, r#"{"prompt":1}"#)),
            400,
            "INVALID_REQUEST",
            "the field prompt is wrong: invalid type: integer `1`, expected a string",
        ),
        (
            "POST",
            "/api/sessions",
            Some((
                json,
                r#"{"repositories":[{"path":"a"},{"path":"b","mount_name":1}]}"#,
            )),
            400,
            "INVALID_REQUEST",
            "the field repositories[1].mount_name is wrong: invalid type: integer `1`, expected a string",
        ),
        (
            "POST",
            "/api/sessions",
            Some((json, r#"{"repositories":[{}]}"#)),
            400,
            "INVALID_REQUEST",
            "the field repositories[0].path is missing",
        ),
        (
            "POST",
            "/api/sessions",
            Some(("text/plain", "{}")),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "the body must be application/json, got text/plain",
        ),
        (
            "POST",
            "/api/sessions",
            Some((json, &big)),
            413,
            "PAYLOAD_TOO_LARGE",
            "the body is larger than 1048576 bytes",
        ),
        (
            "POST",
            "/api/sessions/x/recreate",
            Some((json, r#"{"fersh":true}"#)),
            400,
            "INVALID_REQUEST",
            "unknown field fersh; known are: fresh",
        ),
        (
            "GET",
            "/api/sessions?archived=true",
            None,
            400,
            "INVALID_REQUEST",
            "unknown query parameter archived; known are: include_archived, status, backend, agent, tag, q, limit, cursor",
        ),
        (
            "GET",
            "/api/sessions?include_archived=yes",
            None,
            400,
            "INVALID_REQUEST",
            "the query parameter include_archived is wrong: must be true, false, 1 or 0, got \"yes\"",
        ),
        (
            "GET",
            "/api/sessions?limit=0",
            None,
            400,
            "INVALID_REQUEST",
            "the query parameter limit must be 1 to 1000, got 0",
        ),
        (
            "GET",
            "/api/sessions?limit=1001",
            None,
            400,
            "INVALID_REQUEST",
            "the query parameter limit must be 1 to 1000, got 1001",
        ),
        (
            "GET",
            "/api/sessions?status=asleep",
            None,
            400,
            "INVALID_REQUEST",
            "the query parameter status is wrong: unknown variant `asleep`, expected one of `starting`, `running`, `stopped`, `error`, `archived`, `deleting`",
        ),
        (
            "GET",
            "/api/sessions?limit=1&limit=2",
            None,
            400,
            "INVALID_REQUEST",
            "the query parameter limit is given twice",
        ),
        (
            "GET",
            "/api/config?x=1",
            None,
            400,
            "INVALID_REQUEST",
            "unknown query parameter x; this route takes no query parameters",
        ),
        (
            "DELETE",
            "/api/sessions/x?force=maybe",
            None,
            400,
            "INVALID_REQUEST",
            "the query parameter force is wrong: must be true, false, 1 or 0, got \"maybe\"",
        ),
        (
            "GET",
            "/api/sessions/x/events?after=-1",
            None,
            400,
            "INVALID_REQUEST",
            "the query parameter after is wrong: invalid digit found in string",
        ),
        (
            "GET",
            "/ws/events?token=1",
            None,
            400,
            "INVALID_REQUEST",
            "unknown query parameter token; this route takes no query parameters",
        ),
    ];
    for (method, path, body, status, code, message) in cases {
        let mut request = server.request(method, path);
        if let Some((kind, body)) = body {
            request = request
                .header("content-type", *kind)
                .body((*body).to_owned());
        }
        let answer = fault(request.send().await.unwrap()).await;
        let expected = (*status, (*code).to_owned(), (*message).to_owned());
        assert_eq!(answer, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_has_the_same_limit() {
    let server = Server::start().await;
    let chunk = bytes::Bytes::from(vec![b' '; 64 * 1024]);
    let chunks =
        futures_util::stream::iter((0..32).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let request = server
        .request("POST", "/api/sessions")
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(chunks));
    let (status, code, _) = fault(request.send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (413, "PAYLOAD_TOO_LARGE"));
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let server = Server::start().await;
    let check = async |path: &str, expected: &[&str]| {
        let answer = server.request("PATCH", path).send().await.unwrap();
        assert_eq!(answer.status(), 405);
        let allow = answer.headers()["allow"].to_str().unwrap().to_owned();
        let mut allowed: Vec<&str> = allow.split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, expected, "{path}");
        let options = server.request("OPTIONS", path).send().await.unwrap();
        assert_eq!(options.status(), 204);
        assert_eq!(options.headers()["allow"].to_str().unwrap(), allow);
    };
    check("/health", &["GET", "HEAD"]).await;
    check("/api/sessions", &["GET", "HEAD", "POST"]).await;
    check("/api/sessions/x", &["DELETE", "GET", "HEAD"]).await;
    check("/api/sessions/x/start", &["POST"]).await;
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Server::start().await;
    let head = server.request("HEAD", "/health").send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], "38");
    assert_eq!(head.text().await.unwrap(), "");
}

#[tokio::test]
async fn health_is_as_in_the_reference() {
    let server = Server::start().await;
    let answer = server.request("GET", "/health").send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        body,
        json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")})
    );
}

#[tokio::test]
async fn a_request_id_is_taken_when_it_is_sane_and_made_otherwise() {
    let server = Server::start().await;
    let id = async |given: Option<&str>| {
        let mut request = server.request("GET", "/nope");
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        let answer = request.send().await.unwrap();
        answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(id(Some("abc-1.2:3")).await, "abc-1.2:3");
    let made = id(None).await;
    assert!(made.parse::<uuid::Uuid>().is_ok(), "{made}");
    for bad in ["", "a b", "<script>", &"x".repeat(129)] {
        assert!(id(Some(bad)).await.parse::<uuid::Uuid>().is_ok(), "{bad}");
    }
}

#[tokio::test]
async fn only_known_hosts_and_origins_are_answered() {
    let server = Server::start().await;
    let check = async |path: &str, host: Option<&str>, origin: Option<&str>, passes: bool| {
        let header = |name: &str, value: Option<&str>| {
            value.map_or(String::new(), |value| format!("{name}: {value}\r\n"))
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nConnection: close\r\n{}{}\r\n",
            header("Host", host),
            header("Origin", origin)
        );
        let answer = server.raw(request.as_bytes()).await;
        let refused = answer.starts_with("HTTP/1.1 403") && answer.contains("\"FORBIDDEN\"");
        assert_eq!(!refused, passes, "{path} {host:?} {origin:?}: {answer}");
    };
    for path in ["/health", "/api/config", "/ws/events", "/", "/nope"] {
        check(path, Some("localhost"), None, true).await;
        check(path, Some("127.0.0.1:3030"), None, true).await;
        check(path, Some("[::1]:3030"), None, true).await;
        check(path, Some("berth.example.org"), None, true).await;
        check(path, Some("evil.example"), None, false).await;
        check(path, None, None, false).await;
        check(path, Some("localhost"), Some("http://localhost:5173"), true).await;
        check(path, Some("localhost"), Some("http://127.0.0.1:5173"), true).await;
        check(
            path,
            Some("berth.example.org"),
            Some("https://berth.example.org"),
            true,
        )
        .await;
        check(
            path,
            Some("berth.example.org"),
            Some("http://berth.example.org:8080"),
            false,
        )
        .await;
        check(path, Some("localhost"), Some("http://evil.example"), false).await;
        check(path, Some("localhost"), Some("null"), false).await;
    }
    let twice = "GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    let answer = server
        .raw(format!("{}Connection: close\r\n\r\n", &twice[..twice.len() - 2]).as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_the_answers() {
    let server = Server::start().await;
    let origin = "http://localhost:5173";
    let answer = server
        .request("GET", "/nope")
        .header("origin", origin)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], origin);
    assert_eq!(answer.headers()["vary"], "origin");
    let preflight = server
        .request("OPTIONS", "/api/sessions")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    let headers = preflight.headers();
    assert_eq!(headers["access-control-allow-origin"], origin);
    let allowed = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert!(allowed("access-control-allow-methods").contains("DELETE"));
    assert!(allowed("access-control-allow-headers").contains("content-type"));
    let refused = server
        .request("OPTIONS", "/api/sessions")
        .header("origin", "http://evil.example")
        .header("access-control-request-method", "POST")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 403);
    assert!(
        !refused
            .headers()
            .contains_key("access-control-allow-origin")
    );
}

#[tokio::test]
async fn a_panic_is_told_without_its_cause() {
    let server = Server::start().await;
    let environment = crate::config::Environment::default();
    let loaded = crate::config::Config::load(&crate::config::Given::default(), &environment);
    let (_core, receiver) = watch::channel(None);
    let state = AppState::new(
        Arc::new(loaded.unwrap().config),
        server.address,
        receiver,
        CancellationToken::new(),
        TaskTracker::new(),
    );
    let routes = Router::new().route(
        "/panic",
        get(async || -> StatusCode { panic!("the secret cause") }),
    );
    let request = Request::builder()
        .uri("/panic")
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap();
    let answer = with_rules(routes, state).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 500);
    let body = axum::body::to_bytes(answer.into_body(), 10_000)
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "INTERNAL");
    assert!(!body.to_string().contains("secret"), "{body}");
}

#[tokio::test]
async fn the_description_names_every_route() {
    let server = Server::start().await;
    let answer = server
        .request("GET", "/api/openapi.json")
        .send()
        .await
        .unwrap();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["openapi"], "3.1.0");
    let paths = body["paths"].as_object().unwrap();
    for path in [
        "/health",
        "/ready",
        "/metrics",
        "/api/config",
        "/api/plugins",
        "/api/sessions",
        "/api/sessions/{id}",
        "/api/sessions/{id}/start",
        "/api/sessions/{id}/events",
        "/api/sessions/{id}/events/stream",
        "/api/sessions/{id}/diff",
        "/api/browse-directory",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let schemas = body["components"]["schemas"].as_object().unwrap();
    for schema in ["Fault", "Session", "NewSession", "HealthReport"] {
        assert!(schemas.contains_key(schema), "{schema}");
    }
}

#[tokio::test]
async fn the_page_cannot_be_framed_nor_load_from_elsewhere() {
    let server = Server::start().await;
    let answer = server.request("GET", "/").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(policy.contains("script-src 'self';"), "{policy}");
    assert_eq!(answer.headers()["x-frame-options"], "DENY");
}

#[tokio::test]
async fn without_plugins_the_server_is_up_but_not_ready() {
    let server = Server::start().await;
    let ready = server.request("GET", "/ready").send().await.unwrap();
    assert!(ready.headers().contains_key("retry-after"));
    let (status, code, message) = fault(ready).await;
    assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));
    assert_eq!(
        message,
        "backend auto is not available: no backend can be used"
    );
    let config = server.request("GET", "/api/config").send().await.unwrap();
    let config: Value = config.json().await.unwrap();
    assert_eq!(
        config,
        json!({
            "default_backend": "auto",
            "default_agent": "claude",
            "features": {"webauthn_auth": false, "ai_metadata": false},
            "backends": [],
            "agents": [],
        })
    );
}
