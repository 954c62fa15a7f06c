//! What a person types: `berth` as a client of a real server, on a real terminal where it needs one.

use berth_tests::{Layout, TestHost, eventually, within};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use serde_json::Value;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

async fn berth_at(server: &str, host: &TestHost, arguments: &[&str]) -> Done {
    let running = Command::new(Layout::get().program())
        .args(arguments)
        .env_clear()
        .env("HOME", host.home())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("BERTH_SERVER", server)
        .current_dir(host.scratch())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within("the command", running).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

async fn berth(host: &TestHost, arguments: &[&str]) -> Done {
    berth_at(&format!("http://{}", host.address()), host, arguments).await
}

/// `berth` on a terminal of its own.
struct Terminal {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open(host: &TestHost, arguments: &[&str]) -> Self {
        let size = PtySize {
            cols: 100,
            rows: 30,
            ..PtySize::default()
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(Layout::get().program());
        command.args(arguments);
        command.env_clear();
        command.env("HOME", host.home());
        command.env("TERM", "xterm-256color");
        command.env("BERTH_SERVER", format!("http://{}", host.address()));
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let filled = Arc::clone(&shown);
        // Ends with the terminal.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                filled.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            writer: pair.master.take_writer().unwrap(),
            master: pair.master,
            child,
            shown,
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn type_text(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    async fn wait_for(&self, text: &str) {
        eventually(text, async || {
            let shown = self.shown();
            if shown.contains(text) {
                Ok(())
            } else {
                Err(shown)
            }
        })
        .await;
    }

    /// The exit code, once it has ended.
    async fn ended(&mut self) -> u32 {
        let shown = Arc::clone(&self.shown);
        eventually("the end of the command", async || {
            match self.child.try_wait() {
                Ok(Some(status)) => Ok(status.exit_code()),
                other => Err((
                    other,
                    String::from_utf8_lossy(&shown.lock().unwrap()).into_owned(),
                )),
            }
        })
        .await
    }
}

/// One address for a server that has another after each start.
struct Relay {
    url: String,
    target: Arc<Mutex<String>>,
    _running: JoinSet<()>,
}

impl Relay {
    async fn open(host: &TestHost) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = Arc::new(Mutex::new(host.address().to_owned()));
        let asked = Arc::clone(&target);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let target = asked.lock().unwrap().clone();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        // Either side may end it at any time.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self {
            url,
            target,
            _running: running,
        }
    }

    fn now_at(&self, host: &TestHost) {
        host.address().clone_into(&mut self.target.lock().unwrap());
    }
}

#[tokio::test]
async fn without_a_server_it_says_how_to_start_one() {
    let host = TestHost::start().await;
    let nobody = "http://127.0.0.1:9";
    for arguments in [
        &["ls"][..],
        &["logs", "x"],
        &["rm", "--all"],
        &["plugin", "ls"],
    ] {
        let done = berth_at(nobody, &host, arguments).await.expect(3);
        assert!(done.err.contains("berth serve"), "{done:?}");
        assert!(done.err.contains(nobody), "{done:?}");
    }
    let done = berth_at("ftp://x", &host, &["ls"]).await.expect(1);
    assert!(done.err.contains("looks like http://"), "{done:?}");
}

#[tokio::test]
async fn what_is_typed_wrong_is_told_with_code_2() {
    let host = TestHost::start().await;
    berth(&host, &["frobnicate"]).await.expect(2);
    berth(&host, &["attach", "x", "--detach-key", "x"])
        .await
        .expect(2);
    let done = berth(&host, &["attach", "x"]).await.expect(1);
    assert!(done.err.contains("'x' not found"), "{done:?}");
    let done = berth(&host, &["new", "--env", "A"]).await.expect(1);
    assert!(done.err.contains("NAME=VALUE"), "{done:?}");
    for shell in ["bash", "zsh", "fish"] {
        let done = berth(&host, &["completions", shell]).await.expect(0);
        assert!(done.out.contains("attach"), "{shell}");
    }
}

#[tokio::test]
async fn a_session_from_new_to_rm() {
    let host = TestHost::start().await;
    let repository = host.repository("project");
    let done = berth(
        &host,
        &["new", repository.text(), "--name", "one", "--tag", "a"],
    )
    .await
    .expect(0);
    assert_eq!(done.out, "one\n");
    let status = async || {
        let done = berth(&host, &["ls", "--json", "--tag", "a"])
            .await
            .expect(0);
        let sessions: Value = serde_json::from_str(&done.out).unwrap();
        sessions[0]["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let wait = async |expected: &str| {
        eventually(expected, async || {
            let status = status().await;
            if status == expected {
                Ok(())
            } else {
                Err(status)
            }
        })
        .await;
    };
    wait("running").await;
    let table = berth(&host, &["ls"]).await.expect(0).out;
    assert!(table.contains("one") && table.contains("local"), "{table}");
    assert_eq!(berth(&host, &["ls", "-q"]).await.expect(0).out, "one\n");
    berth(&host, &["send", "one", "echo", "said-$((40+2))"])
        .await
        .expect(0);
    eventually("the logs", async || {
        let logs = berth(&host, &["logs", "one"]).await.expect(0).out;
        if logs.contains("said-42") {
            Ok(())
        } else {
            Err(logs)
        }
    })
    .await;
    let done = berth(&host, &["stop", "one"]).await.expect(0);
    assert_eq!(done.out, "one stopped\n");
    berth(&host, &["start", "one"]).await.expect(0);
    wait("running").await;
    let events = berth(&host, &["events", "one", "--json"]).await.expect(0);
    let seqs: Vec<u64> = events
        .out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["seq"]
                .as_u64()
                .unwrap()
        })
        .collect();
    let counted: Vec<u64> = (1..).take(seqs.len()).collect();
    assert_eq!(seqs, counted);
    let done = berth(&host, &["new", repository.text(), "--name", "one"])
        .await
        .expect(1);
    assert!(done.err.contains("'one' exists"), "{done:?}");
    let done = berth(&host, &["rm", "--all"]).await.expect(0);
    assert_eq!(done.out, "one deleted\n");
    assert_eq!(berth(&host, &["ls", "-q"]).await.expect(0).out, "");
    berth(&host, &["rm", "one"]).await.expect(1);
}

#[tokio::test]
async fn attach_leaves_joins_again_and_ends_with_the_program() {
    let mut host = TestHost::start().await;
    let repository = host.repository("project");
    let session = host.running(&repository).await;
    let mut terminal = Terminal::open(&host, &["attach", &session.id]);
    terminal.wait_for("leaves it running").await;
    terminal.type_text("stty size; echo first-$((1+1))\r");
    terminal.wait_for("first-2").await;
    terminal.wait_for("30 100").await;
    let larger = PtySize {
        cols: 120,
        rows: 40,
        ..PtySize::default()
    };
    terminal.master.resize(larger).unwrap();
    terminal.type_text("until stty size | grep '^40 120'; do :; done\r");
    terminal.wait_for("\r40 120\r\n").await;
    terminal.type_text("echo lost\x1c");
    assert_eq!(terminal.ended().await, 0);
    assert!(terminal.shown().contains("running"), "{}", terminal.shown());
    let relay = Relay::open(&host).await;
    let mut terminal = Terminal::open(
        &host,
        &[
            "--server",
            &relay.url,
            "attach",
            &session.id,
            "--detach-key",
            "ctrl-]",
        ],
    );
    terminal.wait_for("first-2").await;
    host.kill_9().await;
    terminal.wait_for("connection lost").await;
    host.restart().await;
    relay.now_at(&host);
    terminal.wait_for("connected again").await;
    terminal.type_text("\x15echo third-$((1+2))\r");
    terminal.wait_for("third-3").await;
    terminal.type_text("exit 7\r");
    assert_eq!(terminal.ended().await, 7);
    assert!(
        terminal.shown().contains("exit code 7"),
        "{}",
        terminal.shown()
    );
}

#[tokio::test]
async fn doctor_and_config_say_what_holds() {
    let host = TestHost::start().await;
    let server = host.address().to_owned();
    let done = berth(
        &host,
        &["doctor", "--listen", &server, "--default-agent", "shell"],
    )
    .await;
    let done = done.expect(0);
    for words in [
        "git version",
        "berth-keeper",
        "runs at",
        "backend local",
        "agent shell",
    ] {
        assert!(done.out.contains(words), "{words}: {done:?}");
    }
    let done = berth(&host, &["doctor", "--listen", "nowhere"])
        .await
        .expect(1);
    assert!(done.out.contains("listen (flag --listen)"), "{done:?}");
    let done = berth(&host, &["config", "--listen", "127.0.0.1:1", "--json"]).await;
    let config: Value = serde_json::from_str(&done.expect(0).out).unwrap();
    assert_eq!(config["listen"]["value"], "127.0.0.1:1");
    assert_eq!(config["listen"]["origin"], "flag --listen");
    assert_eq!(config["default_agent"]["origin"], "default");
    let done = berth(&host, &["plugin", "ls"]).await.expect(0);
    assert!(
        done.out.contains("local") && done.out.contains("shell"),
        "{done:?}"
    );
}
