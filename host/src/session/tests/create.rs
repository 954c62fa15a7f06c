//! The rules of creation, against a server.

use super::*;
use crate::session::{EnvValue, MarkedEnv, NewRepository, SessionError};
use tokio::task::JoinSet;

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_its_field() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let home = machine.folder.path().join("home");
    std::fs::create_dir(home.join("plain")).unwrap();
    std::fs::create_dir(home.join("empty")).unwrap();
    git(&home.join("empty"), &["init", "-q"]);
    std::fs::create_dir(home.join("bare")).unwrap();
    git(&home.join("bare"), &["init", "-q", "--bare"]);
    let good = machine.new_session("x");
    let repository = |path: String| NewRepository {
        path,
        ..NewRepository::default()
    };
    let at = |name: &str| Some(home.join(name).display().to_string());
    let many = |count: usize| NewSession {
        repo_path: None,
        repositories: Some(vec![repository(machine.repo()); count]),
        ..good.clone()
    };
    let named = |names: [&str; 2]| NewSession {
        repo_path: None,
        repositories: Some(
            names
                .map(|name| NewRepository {
                    mount_name: Some(name.to_owned()),
                    ..repository(machine.repo())
                })
                .to_vec(),
        ),
        ..good.clone()
    };
    let table: Vec<(NewSession, &str)> = vec![
        (
            NewSession {
                name: Some("Bad Name".to_owned()),
                ..good.clone()
            },
            "name",
        ),
        (
            NewSession {
                repo_path: None,
                ..good.clone()
            },
            "repo_path",
        ),
        (
            NewSession {
                repositories: Some(vec![repository(machine.repo())]),
                ..good.clone()
            },
            "repo_path",
        ),
        (many(0), "repositories"),
        (many(6), "repositories"),
        (named(["a", "a"]), "repositories[1].mount_name"),
        (named(["a", "1"]), "repositories[1].mount_name"),
        (
            NewSession {
                repo_path: at("missing"),
                ..good.clone()
            },
            "repo_path",
        ),
        (
            NewSession {
                repo_path: at("plain"),
                ..good.clone()
            },
            "repo_path",
        ),
        (
            NewSession {
                repo_path: at("empty"),
                ..good.clone()
            },
            "repo_path",
        ),
        (
            NewSession {
                repo_path: at("bare"),
                ..good.clone()
            },
            "repo_path",
        ),
        (
            NewSession {
                backend: Some("nowhere".to_owned()),
                ..good.clone()
            },
            "backend",
        ),
        (
            NewSession {
                agent: Some("nobody".to_owned()),
                ..good.clone()
            },
            "agent",
        ),
        (
            NewSession {
                agent: Some("strict".to_owned()),
                prompt: None,
                ..good.clone()
            },
            "prompt",
        ),
        (
            NewSession {
                backend_options: Some(json!({"network": 1})),
                ..good.clone()
            },
            "backend_options.network",
        ),
        (
            NewSession {
                agent_options: Some(json!({"x": 1})),
                ..good.clone()
            },
            "agent_options",
        ),
        (
            NewSession {
                image: Some("debian".to_owned()),
                ..good.clone()
            },
            "image",
        ),
        (
            NewSession {
                image_paths: vec!["/x.png".to_owned()],
                ..good.clone()
            },
            "image_paths",
        ),
        (
            NewSession {
                env: [("1A".to_owned(), EnvValue::Plain(String::new()))].into(),
                ..good.clone()
            },
            "env",
        ),
        (
            NewSession {
                tags: vec![String::new()],
                ..good.clone()
            },
            "tags[0]",
        ),
    ];
    for (new, expected) in table {
        match server.sessions.create(new, None).await {
            Err(SessionError::Invalid { field, message }) => {
                assert_eq!(field, expected, "{message}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    let outside = NewSession {
        repo_path: Some("/usr".to_owned()),
        ..good.clone()
    };
    match server.sessions.create(outside, None).await {
        Err(SessionError::Forbidden(message)) => assert!(message.contains("roots"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(machine.session_folders().is_empty());
    assert_eq!(machine.branches(), ["main"]);
    let listed = server
        .sessions
        .list(&crate::session::ListFilter::default())
        .await;
    assert!(listed.unwrap().sessions.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_away_is_no_place_for_a_new_session() {
    let machine = Machine::new();
    machine.backend.away(Some("no daemon"));
    let server = machine.serve().await;
    match server.sessions.create(machine.new_session("x"), None).await {
        Err(SessionError::BackendUnavailable { backend, reason }) => {
            assert_eq!((backend.as_str(), reason.as_str()), ("fake", "no daemon"));
        }
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

#[tokio::test]
async fn names_are_unique_in_any_race() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let mut racers = JoinSet::new();
    for _ in 0..8 {
        let sessions = server.sessions.clone();
        let new = machine.new_session("same words");
        racers.spawn(async move { sessions.create(new, None).await.unwrap().session });
    }
    let mut names = Vec::new();
    while let Some(session) = racers.join_next().await {
        names.push(session.unwrap().summary.name.to_string());
    }
    names.sort();
    assert_eq!(names[0], "same-words");
    assert_eq!(names[1], "same-words-2");
    names.dedup();
    assert_eq!(names.len(), 8);
    let given = NewSession {
        name: Some("same-words".to_owned()),
        ..machine.new_session("x")
    };
    assert!(matches!(
        server.sessions.create(given, None).await,
        Err(SessionError::NameTaken(_))
    ));
    server.stop().await;
}

#[tokio::test]
async fn the_same_key_makes_one_session() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let mut racers = JoinSet::new();
    for _ in 0..5 {
        let sessions = server.sessions.clone();
        let new = machine.new_session("once");
        racers.spawn(async move { sessions.create(new, Some("k")).await.unwrap() });
    }
    let mut ids = Vec::new();
    let mut made = 0;
    while let Some(created) = racers.join_next().await {
        let created = created.unwrap();
        made += usize::from(!created.replayed);
        ids.push(created.session.summary.id);
    }
    ids.dedup();
    assert_eq!((ids.len(), made), (1, 1));
    assert!(matches!(
        server
            .sessions
            .create(machine.new_session("other"), Some("k"))
            .await,
        Err(SessionError::IdempotencyMismatch)
    ));
    server.stop().await;
}

#[tokio::test]
async fn several_repositories_stand_beside_each_other() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let new = NewSession {
        repo_path: None,
        name: Some("multi".to_owned()),
        repositories: Some(vec![
            NewRepository {
                path: machine.repo(),
                mount_name: Some("main".to_owned()),
                base_branch: None,
            },
            NewRepository {
                path: machine.repo(),
                ..NewRepository::default()
            },
        ]),
        ..machine.new_session("")
    };
    let session = server.create(new).await;
    let session = server.wait_for(session.summary.id, Status::Running).await;
    let mounts: Vec<&str> = session
        .repositories
        .iter()
        .map(|repository| repository.mount_name.as_str())
        .collect();
    assert_eq!(mounts, ["main", "project"]);
    let branches: Vec<_> = session
        .repositories
        .iter()
        .map(|repository| repository.branch.clone().unwrap())
        .collect();
    assert_eq!(branches, ["berth/multi", "berth/multi-2"]);
    server.stop().await;
}

#[tokio::test]
async fn secrets_are_used_and_never_told() {
    let machine = Machine::new();
    let server = machine.serve().await;
    let secret = EnvValue::Marked(MarkedEnv {
        value: "hunter2".to_owned(),
        secret: true,
    });
    let new = NewSession {
        env: [
            ("TOKEN".to_owned(), secret),
            ("PLAIN".to_owned(), EnvValue::Plain("shown".to_owned())),
        ]
        .into(),
        ..machine.new_session("")
    };
    assert!(!format!("{new:?}").contains("hunter2"));
    let session = server.create(new).await;
    let session = server.wait_for(session.summary.id, Status::Running).await;
    let keeper = machine.backend.keeper(&id_text(&session));
    assert_eq!(keeper.programs()[0].program.env["TOKEN"], "hunter2");
    let told = serde_json::to_value(&session).unwrap();
    assert_eq!(
        told["env"],
        json!({"TOKEN": {"secret": true}, "PLAIN": "shown"})
    );
    server.db.close().await;
    let database = std::fs::read(machine.folder.path().join("data/berth.db")).unwrap();
    assert!(!database.windows(7).any(|window| window == b"hunter2"));
}
