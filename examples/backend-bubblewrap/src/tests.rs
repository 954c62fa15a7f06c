//! Real sandboxes with a stand-in for the keeper: a program that sleeps, and where it is wanted says something first.

use super::*;
use crate::place::KILLED;
use berth_plugin_api::doc::{KeeperProgram, Mount, SessionRef};
use std::fs;
use std::path::Path;

async fn open(folder: &Path) -> Bubblewrap {
    Bubblewrap::open(OpenRequest {
        data_dir: folder.to_owned(),
        instance: "here".to_owned(),
        ..OpenRequest::default()
    })
    .await
    .unwrap()
}

fn session(id: &str) -> PlaceRequest {
    PlaceRequest {
        session: SessionRef {
            id: id.to_owned(),
            instance: "here".to_owned(),
            ..SessionRef::default()
        },
        handle: Value::Null,
    }
}

fn creation(id: &str, line: &str, mounts: Vec<Mount>, network: bool) -> CreateRequest {
    CreateRequest {
        session: session(id).session,
        keeper: KeeperProgram {
            path: "/bin/sh".into(),
            args: vec!["-c".to_owned(), line.to_owned()],
            ..KeeperProgram::default()
        },
        mounts,
        options: json!({"network": network}),
        ..CreateRequest::default()
    }
}

async fn state(backend: &Bubblewrap, id: &str) -> Inspection {
    backend.inspect(&Cx::detached(), session(id)).await.unwrap()
}

async fn wait_for(what: &str, mut fits: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !fits().await {
        assert!(since.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_sandbox_lives_through_its_states() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path()).await;
    let cx = Cx::detached();
    let probe = backend.probe(&cx).await.unwrap();
    assert!(probe.available, "{probe:?}");
    assert_eq!(state(&backend, "one").await.state, PlaceState::Missing);
    for _ in 0..2 {
        let request = creation(
            "one",
            "(setsid sleep 1000 &) ; exec sleep 1000",
            Vec::new(),
            true,
        );
        backend.create(&cx, request).await.unwrap();
    }
    assert_eq!(state(&backend, "one").await.state, PlaceState::Created);
    for _ in 0..2 {
        backend.start(&cx, session("one")).await.unwrap();
    }
    assert_eq!(state(&backend, "one").await.state, PlaceState::Running);

    let later = open(folder.path()).await;
    assert_eq!(state(&later, "one").await.state, PlaceState::Running);
    later.start(&cx, session("one")).await.unwrap();
    let list = later
        .list(
            &cx,
            ListRequest {
                instance: "here".to_owned(),
            },
        )
        .await
        .unwrap();
    assert_eq!(list.places.len(), 1);
    let list = later
        .list(
            &cx,
            ListRequest {
                instance: "there".to_owned(),
            },
        )
        .await
        .unwrap();
    assert!(list.places.is_empty());

    later
        .stop(
            &cx,
            StopRequest {
                place: session("one"),
                grace_ms: 50,
            },
        )
        .await
        .unwrap();
    let seen = state(&later, "one").await;
    assert_eq!(
        (seen.state, seen.exit_code),
        (PlaceState::Exited, Some(KILLED))
    );
    later.start(&cx, session("one")).await.unwrap();
    assert_eq!(state(&later, "one").await.state, PlaceState::Running);
    for _ in 0..2 {
        let delete = DeleteRequest {
            place: session("one"),
            data: true,
        };
        later.delete(&cx, delete).await.unwrap();
        assert_eq!(state(&later, "one").await.state, PlaceState::Missing);
    }
    assert_eq!(
        fs::read_dir(folder.path().join("places")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn a_sandbox_sees_what_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path()).await;
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    let mounts = vec![Mount {
        source: work.clone(),
        target: "/work/project".into(),
        read_only: false,
    }];
    let line = "cd /work/project; echo $$ > pid; (touch /x || touch /usr/x || touch /etc/x || echo no) > write 2>/dev/null; \
                ls /root /home > home 2>/dev/null; grep -c : /proc/net/dev > devices; \
                grep CapEff /proc/self/status > capabilities; \
                echo '{\"boot_id\":\"b\",\"exit_code\":7}' > $BERTH_STATE/exit.json; touch done; exit 7";
    backend
        .create(&Cx::detached(), creation("two", line, mounts, false))
        .await
        .unwrap();
    backend
        .start(&Cx::detached(), session("two"))
        .await
        .unwrap();
    wait_for("the program ends", async || {
        state(&backend, "two").await.state == PlaceState::Exited
    })
    .await;
    assert_eq!(state(&backend, "two").await.exit_code, Some(7));
    let told = |name: &str| {
        fs::read_to_string(work.join(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert!(work.join("done").exists());
    assert_eq!(told("pid"), "1");
    assert_eq!(told("write"), "no");
    assert_eq!(told("home"), "");
    assert_eq!(told("devices"), "1", "the loopback device alone");
    assert_eq!(told("capabilities"), "CapEff:\t0000000000000000");
    backend
        .delete(
            &Cx::detached(),
            DeleteRequest {
                place: session("two"),
                data: true,
            },
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path()).await;
    let mounts = vec![Mount {
        source: "/no/such/folder".into(),
        target: "/work".into(),
        read_only: false,
    }];
    backend
        .create(&Cx::detached(), creation("three", "exit", mounts, true))
        .await
        .unwrap();
    backend
        .start(&Cx::detached(), session("three"))
        .await
        .unwrap();
    let fault = backend
        .connect(&Cx::detached(), session("three"))
        .await
        .unwrap_err();
    assert!(fault.message.contains("/no/such/folder"), "{fault}");
}
