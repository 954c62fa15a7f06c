//! What is answered to bad input: always the same form, always by name, never more than the caller may know.

use berth_tests::{Answer, TestHost};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;

const UNKNOWN: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

/// Every route with `:id`, for what holds for all of them.
const OF_A_SESSION: [(&str, &str); 8] = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/start"),
    ("POST", "/stop"),
    ("GET", "/health"),
    ("GET", "/events"),
    ("POST", "/metadata"),
    ("POST", "/messages"),
];

async fn raw(host: &TestHost, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let method: Method = method.parse().unwrap();
    let mut request = host.request(method, path).body(body.to_vec());
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    host.answer(request).await
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let host = TestHost::start().await;
    for path in [
        "/api/nowhere",
        "/api",
        "/api/sessions/a/b/c",
        "/api/sessions/",
    ] {
        host.get(path).await.expect_error(404, "NOT_FOUND");
    }
    for (method, path) in [
        ("PUT", "/api/sessions"),
        ("DELETE", "/health"),
        ("PATCH", "/api/config"),
        ("GET", "/api/browse-directory"),
    ] {
        let answer = host.send(method.parse().unwrap(), path, None).await;
        answer.expect_error(405, "METHOD_NOT_ALLOWED");
        assert!(answer.headers.contains_key("allow"), "{method} {path}");
    }
    for (method, more) in OF_A_SESSION {
        for id in [UNKNOWN, "no-such-name"] {
            let body = match more {
                "/metadata" => Some(json!({"title": "x"})),
                "/messages" => Some(json!({"content": "x"})),
                _ => None,
            };
            let answer = host
                .send(
                    method.parse().unwrap(),
                    &format!("/api/sessions/{id}{more}"),
                    body.as_ref(),
                )
                .await;
            let message = answer.expect_error(404, "SESSION_NOT_FOUND");
            assert_eq!(message, format!("Session with ID '{id}' not found"));
        }
    }
}

#[tokio::test]
async fn a_body_that_is_no_such_document_is_refused() {
    let host = TestHost::start().await;
    for (path, good) in [
        ("/api/sessions", json!({})),
        ("/api/browse-directory", json!({"path": "/"})),
    ] {
        for body in ["", "{", "[1]", "null", "\"x\"", "{\"a\":1}", "\u{feff}{}"] {
            raw(&host, "POST", path, "application/json", body.as_bytes())
                .await
                .expect_error(400, "INVALID_REQUEST");
        }
        raw(
            &host,
            "POST",
            path,
            "application/json",
            b"{\"path\":\"\xff\"}",
        )
        .await
        .expect_error(400, "INVALID_REQUEST");
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ] {
            raw(
                &host,
                "POST",
                path,
                content_type,
                good.to_string().as_bytes(),
            )
            .await
            .expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
        }
        let large = format!("{{\"prompt\":\"{}\"}}", "x".repeat(1 << 20));
        raw(&host, "POST", path, "application/json", large.as_bytes())
            .await
            .expect_error(413, "PAYLOAD_TOO_LARGE");
        let deep = "[".repeat(100_000);
        raw(&host, "POST", path, "application/json", deep.as_bytes())
            .await
            .expect_error(400, "INVALID_REQUEST");
    }
    assert_eq!(host.get("/health").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_creation_that_cannot_be_is_refused_by_the_fields_name() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let path = repository.text();
    let good = json!({"repo_path": path, "prompt": "", "agent": "shell"});
    let with = |changes: Value| {
        let mut body = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let without = |name: &str, changes: Value| {
        let mut body = with(changes);
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let six: Vec<Value> = (0..6)
        .map(|number| json!({"path": path, "mount_name": format!("m{number}")}))
        .collect();
    let cases = [
        (without("repo_path", json!({})), "repo_path"),
        (
            with(json!({"repositories": [{"path": path}]})),
            "repositories",
        ),
        (with(json!({"repo_path": 7})), "repo_path"),
        (with(json!({"repo_path": ""})), "repo_path"),
        (with(json!({"repo_path": "relative/path"})), "repo_path"),
        (with(json!({"colour": "red"})), "colour"),
        (with(json!({"prompt": 1})), "prompt"),
        (with(json!({"name": "Not A Name"})), "name"),
        (with(json!({"name": "-a"})), "name"),
        (with(json!({"name": "x".repeat(64)})), "name"),
        (with(json!({"backend": "nowhere"})), "backend"),
        (with(json!({"agent": "nobody"})), "agent"),
        (with(json!({"no_plan_mode": "yes"})), "no_plan_mode"),
        (
            with(json!({"base_branch": "no-such-branch"})),
            "base_branch",
        ),
        (
            without(
                "repo_path",
                json!({"repositories": [{"path": path, "base_branch": "no-such-branch"}]}),
            ),
            "repositories[0].base_branch",
        ),
        (with(json!({"image_paths": "x"})), "image_paths"),
        (with(json!({"tags": [1]})), "tags"),
        (with(json!({"env": {"A": 1}})), "env"),
        (with(json!({"resources": {"cpu": "many"}})), "resources.cpu"),
        (
            with(json!({"agent_options": {"comand": "ls"}})),
            "agent_options",
        ),
        (
            with(json!({"backend_options": {"x": 1}})),
            "backend_options",
        ),
        (
            without("repo_path", json!({"repositories": []})),
            "repositories",
        ),
        (
            without("repo_path", json!({"repositories": six})),
            "repositories",
        ),
        (
            without(
                "repo_path",
                json!({"repositories": [{"path": path}, {"mount_name": "a"}]}),
            ),
            "repositories[1].path",
        ),
        (
            without(
                "repo_path",
                json!({"repositories": [{"path": path}, {"path": path, "mount_name": "1a"}]}),
            ),
            "repositories[1].mount_name",
        ),
        (
            without(
                "repo_path",
                json!({"repositories": [{"path": path, "mount_name": "a"}, {"path": path, "mount_name": "a"}]}),
            ),
            "repositories[1].mount_name",
        ),
        (
            without(
                "repo_path",
                json!({"repositories": [{"path": path, "branch": "a"}]}),
            ),
            "repositories[0].branch",
        ),
    ];
    for (body, field) in cases {
        let message = host
            .post("/api/sessions", &body)
            .await
            .expect_error(400, "INVALID_REQUEST");
        assert!(message.contains(field), "{body}: {message}");
    }
    let message = host
        .post("/api/sessions", &with(json!({"backend": "nowhere"})))
        .await
        .expect_error(400, "INVALID_REQUEST");
    assert!(
        message.contains("local"),
        "those that are loaded: {message}"
    );
    let list = host.get("/api/sessions").await.body;
    assert_eq!(list["sessions"], json!([]), "nothing was made");
    assert_eq!(repository.git(&["branch", "--list", "berth/*"]), "");
}

#[tokio::test]
async fn a_folder_that_cannot_be_worked_on_is_refused() {
    let host = TestHost::start().await;
    let plain = host.home().join("plain");
    fs::create_dir(&plain).unwrap();
    let bare = host.home().join("bare.git");
    let empty = host.home().join("empty");
    for (folder, arguments) in [(&bare, "--bare"), (&empty, "--quiet")] {
        let done = std::process::Command::new("git")
            .args(["init", "--quiet", arguments])
            .arg(folder)
            .status()
            .unwrap();
        assert!(done.success());
    }
    let missing = host.home().join("missing");
    let create = async |path: &std::path::Path| {
        let body = json!({"repo_path": path, "prompt": "", "agent": "shell"});
        host.post("/api/sessions", &body).await
    };
    for path in [&plain, &bare, &empty, &missing] {
        let message = create(path).await.expect_error(400, "INVALID_REQUEST");
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
    let outside = berth_tests::Repository::make(host.scratch(), "outside");
    let link = host.home().join("link");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    for path in [outside.path(), &link, &host.home().join("../outside")] {
        let message = create(path).await.expect_error(403, "FORBIDDEN");
        assert!(message.contains("roots"), "{message}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let body =
        json!({"repo_path": repository.text(), "prompt": "", "agent": "shell", "name": "mine"});
    let session = host.create_with(&body).await;
    host.post("/api/sessions", &body)
        .await
        .expect_error(409, "CONFLICT");
    session.wait_for(&host, "running").await;
    session.delete(&host).await;
    host.assert_nothing_left(&session).await;
    host.create_with(&body).await.delete(&host).await;
}

#[tokio::test]
async fn the_same_key_is_answered_once() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let body = json!({"repo_path": repository.text(), "prompt": "", "agent": "shell"});
    let send = async |body: &Value| {
        let request = host
            .request(Method::POST, "/api/sessions")
            .header("idempotency-key", "one")
            .json(body);
        host.answer(request).await
    };
    let first = send(&body).await;
    assert_eq!(first.status.as_u16(), 201, "{}", first.body);
    let again = send(&body).await;
    assert_eq!(again.body["id"], first.body["id"]);
    let other = json!({"repo_path": repository.text(), "prompt": "echo", "agent": "shell"});
    send(&other).await.expect_error(409, "CONFLICT");
    let list = host.get("/api/sessions").await.body;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 1);
    host.delete(&format!(
        "/api/sessions/{}?force=true",
        first.body["id"].as_str().unwrap()
    ))
    .await;
}

#[tokio::test]
async fn a_query_that_is_not_known_is_refused_by_name() {
    let host = TestHost::start().await;
    let session = host.running(&host.repository("project")).await;
    let of_session = [
        ("GET", session.path("?colour=1"), "colour"),
        ("DELETE", session.path("?force=maybe"), "force"),
        ("DELETE", session.path("?farce=true"), "farce"),
        ("GET", session.path("/events?befor=1"), "befor"),
    ];
    let general = [
        (
            "GET",
            "/api/sessions?include_archived=2",
            "include_archived",
        ),
        ("GET", "/api/sessions?status=asleep", "status"),
        ("GET", "/api/sessions?limit=0", "limit"),
        ("GET", "/api/sessions?limit=1001", "limit"),
        ("GET", "/api/sessions?cursor=garbage", "cursor"),
        ("GET", "/api/sessions?colour=red", "colour"),
        ("GET", "/api/config?x=1", "x"),
    ]
    .map(|(method, path, name)| (method, path.to_owned(), name));
    for (method, path, name) in of_session.into_iter().chain(general) {
        let message = host
            .send(method.parse().unwrap(), &path, None)
            .await
            .expect_error(400, "INVALID_REQUEST");
        assert!(message.contains(name), "{path}: {message}");
    }
    for good in ["true", "false", "1", "0"] {
        host.get(&format!("/api/sessions?include_archived={good}"))
            .await
            .expect(reqwest::StatusCode::OK);
    }
    session.wait_for(&host, "running").await;
    session.delete(&host).await;
}

#[tokio::test]
async fn folders_are_browsed_within_the_roots() {
    let host = TestHost::start().await;
    let home = fs::canonicalize(host.home()).unwrap();
    let repository = host.repository("project");
    fs::create_dir(home.join("a-folder")).unwrap();
    fs::create_dir(home.join(".hidden")).unwrap();
    fs::write(home.join("a-file"), "12345").unwrap();
    std::os::unix::fs::symlink("/etc", home.join("way-out")).unwrap();
    let browse = async |path: &std::path::Path, show_hidden: bool| {
        host.post(
            "/api/browse-directory",
            &json!({"path": path, "show_hidden": show_hidden}),
        )
        .await
    };
    let seen = browse(&home, false)
        .await
        .expect(reqwest::StatusCode::OK)
        .body;
    assert_eq!(seen["current_path"], home.to_str().unwrap());
    let entries = seen["entries"].as_array().unwrap();
    let names: Vec<&str> = entries
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert!(
        names.starts_with(&["a-folder", "project"]),
        "folders first: {names:?}"
    );
    assert!(
        names.contains(&"a-file") && !names.contains(&".hidden"),
        "{names:?}"
    );
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(entry("project")["is_git_repo"], true);
    assert_eq!(entry("project")["path"], repository.text());
    assert_eq!(entry("a-folder")["is_git_repo"], false);
    assert_eq!(
        (
            entry("a-file")["is_dir"].as_bool(),
            entry("a-file")["size"].as_u64()
        ),
        (Some(false), Some(5))
    );
    let seen = browse(&home, true)
        .await
        .expect(reqwest::StatusCode::OK)
        .body;
    assert!(
        seen["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["name"] == ".hidden")
    );
    let outside = [
        host.scratch(),
        std::path::Path::new("/etc"),
        &home.join("way-out"),
        &home.join("project/../.."),
    ];
    for path in outside {
        browse(path, false).await.expect_error(403, "FORBIDDEN");
    }
    browse(&home.join("missing"), false)
        .await
        .expect_error(400, "INVALID_REQUEST");
    browse(&home.join("a-file"), false)
        .await
        .expect_error(400, "INVALID_REQUEST");
}
