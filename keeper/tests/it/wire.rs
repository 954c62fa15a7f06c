//! Other ends than the ones that were made for it.

use crate::world::{World, all_output, run, shell, soon, start, until_ended};
use berth_host::keeper::protocol::{Hello, PROTOCOL};
use berth_host::keeper::{Keeper, KeeperError};
use berth_plugin_api::Stream;
use bytes::Bytes;
use http::{Request, Response};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

#[tokio::test]
async fn garbage_and_silence_harm_nobody_else() {
    let world = World::start();
    let silent = world.socket().await;
    let mut half_open = world.socket().await;
    half_open
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0xff; 4096],
        b"\n",
    ] {
        let mut stream = world.socket().await;
        stream.write_all(garbage).await.ok();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.ok();
    }
    let mut broken = world.socket().await;
    broken
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
        .await
        .unwrap();
    let keeper = world.connect().await;
    start(&keeper, "echo fine").await;
    until_ended(&keeper).await;
    assert_eq!(all_output(&keeper).await, "fine\r\n");
    drop((silent, half_open, broken));
}

#[tokio::test]
async fn routes_and_fields_that_are_not_known_are_told_apart() {
    let world = World::start();
    let (requests, connection) = h2::client::handshake(world.socket().await).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let ask = async |method: &str, path: &str, body: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://keeper{path}"));
        let mut requests = requests.clone().ready().await.unwrap();
        let (answer, mut sending) = requests
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        sending
            .send_data(Bytes::from_static(body.as_bytes()), true)
            .unwrap();
        let (head, mut receiving) = soon(answer).await.unwrap().into_parts();
        let document = receiving.data().await.unwrap().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        (
            head.status.as_u16(),
            document["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    for (method, path, body, status, code) in [
        ("GET", "/v1/nothing", "", 404, "UNKNOWN_ROUTE"),
        ("POST", "/v2/status", "", 404, "UNKNOWN_ROUTE"),
        ("DELETE", "/v1/status", "", 404, "UNKNOWN_ROUTE"),
        ("POST", "/v1/program", "{", 400, "INVALID"),
        ("POST", "/v1/program", "{\"run_id\":\"\"}", 400, "INVALID"),
        (
            "POST",
            "/v1/resize",
            "{\"cols\":0,\"rows\":1}",
            400,
            "INVALID",
        ),
        (
            "POST",
            "/v1/resize",
            "{\"cols\":90,\"rows\":1,\"later\":true}",
            200,
            "",
        ),
        ("POST", "/v1/input", "x", 409, "CONFLICT"),
        (
            "POST",
            "/v1/signal",
            "{\"signal\":\"INT\"}",
            409,
            "CONFLICT",
        ),
        ("POST", "/v1/execs/7/io", "", 404, "NOT_FOUND"),
        ("GET", "/v1/output?from=x", "", 400, "INVALID"),
        ("GET", "/v1/file?path=%zz", "", 400, "INVALID"),
        ("POST", "/v1/dial", "", 400, "INVALID"),
        ("GET", "/v1/status", "", 200, ""),
    ] {
        assert_eq!(
            ask(method, path, body).await,
            (status, code.to_owned()),
            "{method} {path} {body}"
        );
    }
}

#[tokio::test]
async fn an_older_keeper_is_one_that_lacks_something() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connection = h2::server::handshake(theirs).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let known = request.uri().path() == "/v1/hello";
            let head = Response::builder().status(if known { 200 } else { 404 });
            let mut body = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            let hello = Hello {
                protocol: PROTOCOL,
                ..Hello::default()
            };
            let document = if known {
                serde_json::to_vec(&hello).unwrap()
            } else {
                Vec::new()
            };
            body.send_data(document.into(), true).unwrap();
        }
    });
    let keeper = Keeper::connect(Stream::new(ours)).await.unwrap();
    let error = keeper.status().await.unwrap_err();
    let route = "/v1/status".to_owned();
    assert_eq!(error, KeeperError::Unsupported { route });
}

#[tokio::test]
async fn a_stream_without_a_keeper_is_told() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs
        .write_all(b"bash: berth-keeper: command not found\n")
        .await
        .unwrap();
    let error = soon(Keeper::connect(Stream::new(ours))).await.unwrap_err();
    assert!(error.is_lost(), "{error:?}");
}

#[tokio::test]
async fn a_keeper_that_dies_is_noticed_at_once() {
    let mut world = World::start();
    let keeper = world.connect().await;
    let mut changes = keeper.changes().await.unwrap();
    changes.next().await.unwrap().unwrap();
    world.child.kill().unwrap();
    world.child.wait().unwrap();
    assert!(soon(keeper.closed()).await.is_lost());
    assert!(keeper.is_closed());
    assert!(keeper.status().await.unwrap_err().is_lost());
    assert!(
        soon(changes.next())
            .await
            .is_none_or(|last| last.unwrap_err().is_lost())
    );
}

#[tokio::test]
async fn connect_joins_standard_input_and_output_to_the_keeper() {
    let world = World::with(&["--ring-bytes", "33554432"]);
    let relay = || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_berth-keeper"));
        command
            .arg("connect")
            .env("BERTH_STATE", world.state())
            .kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut child = relay();
    let (stdout, stdin) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let keeper = Keeper::connect(Stream::join(stdout, stdin)).await.unwrap();
    keeper
        .start(&run("run-1", shell("seq 1 500000")))
        .await
        .unwrap();
    let output = soon(all_output(&keeper)).await;
    assert!(output.ends_with("\r\n500000\r\n"));
    assert_eq!(output.len(), 3_888_895);
    // The end of its input is an end for the keeper, whose last words still come.
    let mut half = relay();
    drop(half.stdin.take());
    assert!(soon(half.wait()).await.unwrap().success());
    // The keeper's end is its end.
    soon(keeper.release("run-1")).await.unwrap();
    assert!(soon(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn nobody_else_gets_in() {
    let world = World::start();
    world.connect().await;
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.state()), 0o700);
    assert_eq!(mode(world.state().join("keeper.sock")), 0o600);
    // One keeper a folder.
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_berth-keeper"))
        .arg("run")
        .env("BERTH_STATE", world.state())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert!(
        complaint.contains("another keeper lives there"),
        "{complaint}"
    );
    world.connect().await.status().await.unwrap();
}

#[tokio::test]
async fn a_daemon_is_on_its_own_and_in_a_folder_of_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("a-very-long-name".repeat(12));
    let started = std::process::Command::new(env!("CARGO_BIN_EXE_berth-keeper"))
        .args(["run", "--daemon", "--session", "s"])
        .env("BERTH_STATE", &state)
        .output()
        .unwrap();
    assert!(started.status.success(), "{started:?}");
    let pid: i32 = String::from_utf8(started.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    assert_ne!(
        nix::unistd::getsid(Some(pid)).unwrap(),
        nix::unistd::getsid(None).unwrap()
    );
    let mut relay = tokio::process::Command::new(env!("CARGO_BIN_EXE_berth-keeper"));
    relay
        .arg("connect")
        .env("BERTH_STATE", &state)
        .kill_on_drop(true);
    let mut relay = relay
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stream = Stream::join(relay.stdout.take().unwrap(), relay.stdin.take().unwrap());
    let keeper = Keeper::connect(stream).await.unwrap();
    assert_eq!(keeper.hello().pid, pid.as_raw().cast_unsigned());
    start(&keeper, "exit 3").await;
    until_ended(&keeper).await;
    keeper.release("run-1").await.unwrap();
    soon(keeper.closed()).await;
    let record = crate::world::eventually("the exit record", || async {
        std::fs::read_to_string(state.join("exit.json"))
    });
    assert!(record.await.contains("\"exit_code\":3"));
}
