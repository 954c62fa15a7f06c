//! Whom the server answers: known hosts and origins only.

use berth_tests::TestHost;
use reqwest::Method;

const SOCKETS: [&str; 2] = ["/ws/events", "/ws/console/any"];
const ROUTES: [&str; 4] = ["/health", "/api/config", "/api/sessions", "/nowhere"];

#[tokio::test]
async fn only_known_hosts_are_answered() {
    let host = TestHost::start().await;
    let port = host.address().rsplit_once(':').unwrap().1.to_owned();
    for path in ROUTES {
        for name in [
            "evil.example",
            &format!("evil.example:{port}"),
            "127.0.0.1.evil.example",
            "",
        ] {
            let request = host.request(Method::GET, path).header("host", name);
            let answer = host.answer(request).await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 403),
                "{name:?}: {}",
                answer.status
            );
        }
        for name in [
            format!("localhost:{port}"),
            format!("127.0.0.1:{port}"),
            format!("[::1]:{port}"),
        ] {
            let request = host.request(Method::GET, path).header("host", &name);
            assert_ne!(host.answer(request).await.status.as_u16(), 403, "{name}");
        }
    }
    for path in SOCKETS {
        host.refused_socket(path, &[("host", "evil.example")])
            .await
            .expect_error(403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn only_known_origins_are_answered() {
    let host = TestHost::start().await;
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example:80",
    ] {
        for path in ROUTES {
            let request = host.request(Method::GET, path).header("origin", origin);
            host.answer(request).await.expect_error(403, "FORBIDDEN");
        }
        for path in SOCKETS {
            host.refused_socket(path, &[("origin", origin)])
                .await
                .expect_error(403, "FORBIDDEN");
        }
    }
    for origin in [
        "http://localhost:5173",
        "http://127.0.0.1:9",
        &format!("http://{}", host.address()),
    ] {
        let request = host
            .request(Method::GET, "/api/config")
            .header("origin", origin);
        let answer = host.answer(request).await;
        assert_eq!(answer.status.as_u16(), 200, "{origin}: {}", answer.body);
        let allowed = answer.headers.get("access-control-allow-origin");
        assert_eq!(allowed.and_then(|value| value.to_str().ok()), Some(origin));
    }
}

#[tokio::test]
async fn a_request_has_an_id() {
    let host = TestHost::start().await;
    let made = host.get("/health").await;
    assert!(made.headers.contains_key("x-request-id"));
    let request = host
        .request(Method::GET, "/nowhere")
        .header("x-request-id", "a-request-of-mine");
    let answer = host.answer(request).await;
    assert_eq!(answer.headers["x-request-id"], "a-request-of-mine");
}
