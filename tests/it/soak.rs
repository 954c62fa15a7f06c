//! The server killed at random instants, in the middle of everything: each session is whole or gone afterwards, each
//! console goes on at the exact byte, each event stands once.
//!
//! Ten rounds; a hundred with `BERTH_SOAK`. `BERTH_SEED` repeats a run's choices.

use crate::main_line::{assert_consecutive, numbers};
use berth_tests::{Repository, TestHost, TestSession, eventually, processes_with};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Chance, from a seed that a failure names.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn choose_seed() -> u64 {
    let given: Option<u64> = std::env::var("BERTH_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        now.subsec_nanos().into()
    }) | 1
}

/// What the requests that were under way when the server died had been answered.
#[derive(Debug, Default)]
struct Answers {
    created: BTreeSet<String>,
    deleted: BTreeSet<String>,
    /// Asked for; the answer is not known.
    maybe_deleted: BTreeSet<String>,
}

#[tokio::test]
async fn killed_at_random_instants() {
    let rounds = if std::env::var_os("BERTH_SOAK").is_some() {
        100
    } else {
        10
    };
    let seed = choose_seed();
    let mut chance = Chance(seed);
    let mut host = TestHost::start().await;
    let repository = host.repository("project");
    let clean = repository.untouched();

    // One prints without end, one takes messages: what they hold must come through every round.
    let printing = host.running(&repository).await;
    let mut console = host.console(&printing, "").await;
    console
        .type_text("echo process-$$-; i=0; while :; do i=$((i+1)); printf 'n-%d.\\r\\n' $i; [ $((i%20)) = 0 ] && sleep 0.02; done\r")
        .await;
    let screen = console.wait_for("n-20.").await;
    let pid = *numbers(&screen, "process-", "-").last().unwrap();
    let body = json!({"repo_path": repository.text(), "prompt": "", "agent": "shell", "agent_options": {"command": ["cat"]}});
    let listening = host.create_with(&body).await;
    listening.wait_for(&host, "running").await;
    drop(console);

    let mut others: BTreeMap<String, TestSession> = BTreeMap::new();
    let mut last_line = 20;
    let mut told: Vec<Value> = Vec::new();
    for round in 0..rounds {
        let what = format!("round {round} of seed {seed}");
        let answers = {
            let doomed: Vec<String> = others.keys().take(2).cloned().collect();
            let acting = act(&host, &repository, &listening, &doomed, round);
            let dying = tokio::time::sleep(Duration::from_millis(chance.below(700)));
            tokio::pin!(acting);
            let done = tokio::select! {
                biased;
                () = dying => None,
                answers = &mut acting => Some(answers),
            };
            // The server dies while its clients wait; they then see what they were answered.
            host.signal_9();
            match done {
                Some(answers) => answers,
                None => acting.await,
            }
        };
        host.kill_9().await;
        host.restart().await;

        let list = settled(&host, &what).await;
        for id in &answers.created {
            assert!(
                list.contains_key(id) || answers.maybe_deleted.contains(id),
                "{what}: {id} was created and is not there"
            );
        }
        for id in &answers.deleted {
            assert!(
                !list.contains_key(id),
                "{what}: {id} was deleted and is there"
            );
        }
        for id in others.keys() {
            let may_be_gone = answers.deleted.contains(id) || answers.maybe_deleted.contains(id);
            assert!(list.contains_key(id) || may_be_gone, "{what}: {id} is gone");
        }
        others.clear();
        for (id, session) in &list {
            if *id == printing.id || *id == listening.id {
                continue;
            }
            assert_whole(&host, session, &what).await;
            others.insert(id.clone(), session.clone());
        }
        assert_only(&host, &repository, &list, &what).await;

        let mut console = host
            .console(&printing, "?scrollback=100000&control=1")
            .await;
        console
            .wait_for_control("the replay's end", |message| {
                message["type"] == "replay_end"
            })
            .await;
        let next = format!("n-{}.", last_line + 1);
        let screen = console.wait_for(&next).await;
        let lines = numbers(&screen, "n-", ".\r");
        let expected: Vec<u64> = (lines[0]..).take(lines.len()).collect();
        assert_eq!(lines, expected, "{what}: the output has a gap or a repeat");
        assert!(
            lines[0] == 1 || lines.len() > 90_000,
            "{what}: the output is only {} lines from {} on",
            lines.len(),
            lines[0]
        );
        last_line = *lines.last().unwrap();
        let processes = processes_with(&format!("BERTH_SESSION={}", printing.id));
        assert!(
            processes
                .iter()
                .any(|process| u64::try_from(process.pid) == Ok(pid)),
            "{what}: {processes:?}"
        );

        let events = listening.events(&host).await;
        assert_consecutive(&events);
        assert!(events.len() >= told.len(), "{what}: events are gone");
        assert_eq!(
            events[..told.len()],
            told[..],
            "{what}: events have changed"
        );
        told = events;
    }
    let list = settled(&host, "the end").await;
    join_all(list.values().map(|session| session.delete(&host))).await;
    for session in list.values() {
        host.assert_nothing_left(session).await;
    }
    assert_eq!(repository.untouched(), clean);
    assert_eq!(repository.git(&["branch", "--list", "berth/*"]), "");
}

/// Creates, deletes and says things, all at once; every answer that came is noted.
async fn act(
    host: &TestHost,
    repository: &Repository,
    listening: &TestSession,
    doomed: &[String],
    round: usize,
) -> Answers {
    let mut answers = Answers::default();
    let creating = join_all((0..3).map(|number| {
        let body = json!({
            "repo_path": repository.text(), "prompt": "", "agent": "shell", "name": format!("r{round}-{number}"),
        });
        host.try_answer(host.request(Method::POST, "/api/sessions").json(&body))
    }));
    let deleting = join_all(doomed.iter().map(async |id| {
        let path = format!("/api/sessions/{id}?force=true");
        (
            id.clone(),
            host.try_answer(host.request(Method::DELETE, &path)).await,
        )
    }));
    let saying = async {
        for number in 0..200 {
            let body = json!({"content": format!("message {number} of round {round}")});
            let request = host
                .request(Method::POST, &listening.path("/messages"))
                .json(&body);
            if host.try_answer(request).await.is_err() {
                break;
            }
        }
    };
    let (created, deleted, ()) = tokio::join!(creating, deleting, saying);
    for answer in created.into_iter().flatten() {
        let answer = answer.expect(StatusCode::CREATED);
        answers
            .created
            .insert(answer.body["id"].as_str().unwrap().to_owned());
    }
    for (id, answer) in deleted {
        match answer {
            Ok(answer) => {
                let _ = answer.expect(StatusCode::OK);
                answers.deleted.insert(id);
            }
            Err(_) => {
                answers.maybe_deleted.insert(id);
            }
        }
    }
    answers
}

/// Waits until no session is on its way; gives those that are there.
async fn settled(host: &TestHost, what: &str) -> BTreeMap<String, TestSession> {
    eventually(
        &format!("{what}: every session whole or gone"),
        async || {
            let list = host
                .get("/api/sessions?include_archived=true")
                .await
                .expect(StatusCode::OK)
                .body;
            let sessions = list["sessions"].as_array().unwrap().clone();
            let on_their_way: Vec<&Value> = sessions
                .iter()
                .filter(|session| session["status"] != "running")
                .collect();
            if !on_their_way.is_empty() {
                return Err(format!("{on_their_way:?}"));
            }
            Ok(sessions
                .iter()
                .map(|session| {
                    let field = |name: &str| session[name].as_str().unwrap().to_owned();
                    let found = TestSession {
                        id: field("id"),
                        name: field("name"),
                        created: session.clone(),
                    };
                    (found.id.clone(), found)
                })
                .collect())
        },
    )
    .await
}

/// It runs, has its working tree and its branch, and its terminal answers.
async fn assert_whole(host: &TestHost, session: &TestSession, what: &str) {
    let worktree = session.worktree(host).await;
    assert!(
        worktree.join("README.md").is_file(),
        "{what}: {} has no working tree",
        session.name
    );
    let mut console = host.console(session, "").await;
    console.type_text("echo wh''ole\r").await;
    console.wait_for("whole").await;
    assert_consecutive(&session.events(host).await);
}

/// Nothing is there of a session that is not in the list: no process, no folder, no branch.
async fn assert_only(
    host: &TestHost,
    repository: &Repository,
    list: &BTreeMap<String, TestSession>,
    what: &str,
) {
    let known = |name: &str| list.keys().any(|id| name.contains(id.as_str()));
    eventually(
        &format!("{what}: nothing of sessions that are gone"),
        async || {
            let mut left: Vec<String> = Vec::new();
            for folder in ["sessions", "backends/local/places"] {
                left.extend(
                    names_in(&host.data_dir().join(folder))
                        .into_iter()
                        .filter(|name| !known(name)),
                );
            }
            let places = host.data_dir().join("backends/local/places");
            let marked = processes_with(&format!("BERTH_STATE={}/", places.display()));
            for process in marked {
                let environ =
                    fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
                let environ = String::from_utf8_lossy(&environ).into_owned();
                if !environ.is_empty() && !known(&environ) {
                    left.push(format!("{process:?}"));
                }
            }
            let branches = repository.git(&[
                "for-each-ref",
                "--format",
                "%(refname:lstrip=3)",
                "refs/heads/berth/",
            ]);
            let names: BTreeSet<&str> =
                list.values().map(|session| session.name.as_str()).collect();
            left.extend(
                branches
                    .lines()
                    .filter(|branch| !names.contains(branch))
                    .map(str::to_owned),
            );
            if left.is_empty() { Ok(()) } else { Err(left) }
        },
    )
    .await;
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}
