//! The page at `/`, which is built by `make web` and embedded in the program.

use super::state::AppState;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};
use std::fmt::Write;

/// What the build of the page left.
#[derive(RustEmbed)]
#[folder = "web/dist"]
struct Files;

const INDEX: &str = "index.html";
const NOT_BUILT: &str = "The page was not built into this program: run `make build` in berth's repository, or use the API under /api.\n";

/// A route for each file, and `/`.
pub(super) fn routes() -> Router<AppState> {
    Files::iter().filter(|name| name != INDEX).fold(
        Router::new().route("/", get(index)),
        |router, name| {
            // Braces would be read as a parameter; the build makes no such names.
            let path = format!("/{name}").replace(['{', '}'], "_");
            router.route(
                &path,
                get(async move |headers: HeaderMap| file(&name, &headers)),
            )
        },
    )
}

async fn index(headers: HeaderMap) -> Response {
    let mut response = if Files::get(INDEX).is_some() {
        file(INDEX, &headers)
    } else {
        let mut response = Response::new(Body::from(NOT_BUILT));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        response
    };
    let policy = policy(headers.get(header::HOST));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
        .headers_mut()
        .insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response.headers_mut().insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

/// What the page may load. Styles may stand inline, since the terminal makes its own; sockets are named by this server's
/// host, since not every browser counts them as `'self'`.
fn policy(host: Option<&HeaderValue>) -> String {
    let host = host
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
         connect-src 'self' ws://{host} wss://{host}; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn file(name: &str, asked: &HeaderMap) -> Response {
    let Some(file) = Files::get(name) else {
        return Response::new(Body::empty());
    };
    let tag = tag(&file);
    let mut response = if asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(file.data))
    };
    let headers = response.headers_mut();
    let kind = match mime_guess::from_path(name).first_raw() {
        Some("text/javascript") => "text/javascript; charset=utf-8",
        Some("text/html") => "text/html; charset=utf-8",
        Some("text/css") => "text/css; charset=utf-8",
        Some(kind) => kind,
        None => "application/octet-stream",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // The build names what is in `assets/` by its content.
    let caching = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let mut tag = String::from("\"");
    for byte in &hash[..12] {
        // Writing to a string cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}
