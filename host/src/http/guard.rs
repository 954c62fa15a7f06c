//! Who may call: known `Host` names, allowed `Origin`s, and nobody new once the server drains.
//!
//! The browser names the host that it was told to call, so a page of another site that had its own name resolved to this
//! machine (DNS rebinding) is found out by `Host`; a page that calls across sites is found out by `Origin`.

use super::error::ApiError;
use super::server::LocalAddress;
use super::state::AppState;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a client is told to wait when the server drains.
const DRAIN_RETRY: Duration = Duration::from_secs(5);
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE, OPTIONS");
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, x-request-id",
);
const EXPOSED_HEADERS: HeaderValue =
    HeaderValue::from_static("location, retry-after, x-request-id");

pub(super) async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let local = request
        .extensions()
        .get::<LocalAddress>()
        .map(|local| local.0);
    let host = match known_host(
        request.headers(),
        request.uri(),
        state.address(),
        local,
        &state.config().hosts,
    ) {
        Ok(host) => host,
        Err(error) => return error.into_response(),
    };
    let origin = match allowed_origin(request.headers(), &host) {
        Ok(origin) => origin,
        Err(error) => return error.into_response(),
    };
    let mut response = if state.shutdown().is_cancelled() && request.uri().path() != "/health" {
        ApiError::unavailable("the server is stopping", DRAIN_RETRY).into_response()
    } else if origin.is_some() && is_preflight(&request) {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("600"),
        );
        response
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
    }
    response
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The host that the client called, where it is one of ours. A full URL in the request line is held to the same rule.
fn known_host(
    headers: &HeaderMap,
    uri: &Uri,
    listen: SocketAddr,
    local: Option<SocketAddr>,
    configured: &[String],
) -> Result<Authority, ApiError> {
    let mut given = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        return Err(ApiError::forbidden(
            "the request needs one header Host, which names this server",
        ));
    };
    let authority = host
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Authority>().ok())
        .filter(|authority| !authority.as_str().contains('@'));
    let known = |authority: &Authority| {
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .ok();
        match address {
            Some(address) => {
                address.is_loopback()
                    || address == listen.ip()
                    || local.is_some_and(|local| local.ip() == address)
            }
            None => name == "localhost",
        }
        .then_some(())
        .or_else(|| configured.contains(&name).then_some(()))
        .is_some()
    };
    match authority {
        Some(authority) if known(&authority) && uri.authority().is_none_or(known) => Ok(authority),
        _ => Err(ApiError::forbidden(format!(
            "this server does not answer to the name {:?}; the setting `hosts` adds names",
            host.to_str().unwrap_or("?")
        ))),
    }
}

/// The origin that the request comes from, where it has one, which must be allowed.
fn allowed_origin(headers: &HeaderMap, host: &Authority) -> Result<Option<HeaderValue>, ApiError> {
    let mut given = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = given.next() else {
        return Ok(None);
    };
    let allowed = given.next().is_none()
        && origin
            .to_str()
            .is_ok_and(|origin| is_allowed_origin(origin, host));
    if allowed {
        Ok(Some(origin.clone()))
    } else {
        Err(ApiError::forbidden(format!(
            "pages of the origin {:?} may not call this server",
            origin.to_str().unwrap_or("?")
        )))
    }
}

fn is_allowed_origin(origin: &str, host: &Authority) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().to_ascii_lowercase();
    let is_local = name == "localhost" || name == "127.0.0.1";
    let same = name == host.host().to_ascii_lowercase()
        && authority.port_u16().unwrap_or(default_port) == host.port_u16().unwrap_or(default_port);
    is_local || same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_pass() {
        let listen: SocketAddr = "192.0.2.7:3030".parse().unwrap();
        let configured = ["berth.example.org".to_owned()];
        let check = |host: &str, passes: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            let uri = Uri::from_static("/health");
            let known = known_host(&headers, &uri, listen, None, &configured);
            assert_eq!(known.is_ok(), passes, "{host}");
        };
        for good in [
            "localhost",
            "localhost:3030",
            "LOCALHOST:1",
            "127.0.0.1:3030",
            "[::1]:3030",
            "192.0.2.7",
            "berth.example.org",
            "localhost.:3030",
        ] {
            check(good, true);
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "192.0.2.8",
            "",
            "local host",
            "berth.example.org.evil.example:3030",
        ] {
            check(bad, false);
        }
        let none = known_host(&HeaderMap::new(), &Uri::from_static("/"), listen, None, &[]);
        assert!(none.is_err());
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let elsewhere = Uri::from_static("http://evil.example/health");
        assert!(known_host(&headers, &elsewhere, listen, None, &[]).is_err());
    }

    #[test]
    fn only_allowed_origins_pass() {
        let check = |origin: &str, host: &str, passes: bool| {
            let host: Authority = host.parse().unwrap();
            assert_eq!(
                is_allowed_origin(origin, &host),
                passes,
                "{origin} at {host}"
            );
        };
        check("http://localhost:3030", "localhost:3030", true);
        check("http://localhost:5173", "localhost:3030", true);
        check("https://127.0.0.1:1", "localhost:3030", true);
        check("http://[::1]:3030", "[::1]:3030", true);
        check("http://[::1]:3031", "[::1]:3030", false);
        check("https://berth.example.org", "berth.example.org", true);
        check("http://berth.example.org:8080", "berth.example.org", false);
        check("null", "localhost:3030", false);
        check("http://evil.example", "localhost:3030", false);
        check("http://localhost.evil.example", "localhost:3030", false);
        check("http://localhost@evil.example", "localhost:3030", false);
        check("file://localhost", "localhost:3030", false);
        check("", "localhost:3030", false);
    }
}
