//! Programs beside the main one.

use crate::world::{World, content, eventually, is_alive, program, shell, soon, start};
use berth_host::keeper::protocol::{Size, StartExec};
use berth_host::keeper::{Dial, Exec, ExecEvent, Keeper};
use bytes::Bytes;

async fn with_pipes(keeper: &Keeper, script: &str) -> Exec {
    let start = StartExec {
        program: shell(script),
        terminal: None,
    };
    keeper.exec(&start).await.expect("an exec")
}

async fn on_terminal(keeper: &Keeper, script: &str) -> Exec {
    let start = StartExec {
        program: shell(script),
        terminal: Some(Size { cols: 90, rows: 20 }),
    };
    keeper.exec(&start).await.expect("an exec")
}

/// Reads on until the text has come on standard output.
async fn says(exec: &mut Exec, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        match soon(exec.output.next())
            .await
            .expect("more")
            .expect("an event")
        {
            ExecEvent::Stdout(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            event => panic!("{event:?} after {seen}"),
        }
    }
    seen
}

async fn exits(exec: &mut Exec) -> i32 {
    loop {
        if let ExecEvent::Exit(code) = soon(exec.output.next())
            .await
            .expect("more")
            .expect("an event")
        {
            assert_eq!(exec.output.next().await, None);
            return code;
        }
    }
}

#[tokio::test]
async fn outputs_are_kept_apart_and_the_exit_code_comes_last() {
    let world = World::start();
    let keeper = world.connect().await;
    let script = shell("echo out; echo err >&2; exit 12");
    let finished = soon(keeper.run(&script, Bytes::new(), 1000)).await.unwrap();
    assert_eq!(finished.stdout, b"out\n");
    assert_eq!(finished.stderr, b"err\n");
    assert_eq!(finished.code, 12);
    let killed = soon(keeper.run(&shell("kill -TERM $$"), Bytes::new(), 1000))
        .await
        .unwrap();
    assert_eq!(killed.code, 143);
}

#[tokio::test]
async fn the_end_of_input_is_an_end_and_output_still_comes() {
    let world = World::start();
    let keeper = world.connect().await;
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let finished = soon(keeper.run(&program(&["cat"]), sent.clone().into(), sent.len()))
        .await
        .unwrap();
    assert!(finished.stdout == sent);
    let mut counting = with_pipes(&keeper, "wc -c; echo done").await;
    counting
        .input
        .write(Bytes::from(vec![b'x'; 100_000]))
        .await
        .unwrap();
    counting.input.end().unwrap();
    assert!(says(&mut counting, "done").await.contains("100000"));
    assert_eq!(exits(&mut counting).await, 0);
}

#[tokio::test]
async fn a_program_that_does_not_read_does_not_hold_up_its_end() {
    let world = World::start();
    let keeper = world.connect().await;
    let input = Bytes::from(vec![0; 2_000_000]);
    let finished = soon(keeper.run(&shell("echo deaf; exit 1"), input, 100))
        .await
        .unwrap();
    assert_eq!((finished.code, finished.stdout), (1, b"deaf\n".to_vec()));
}

#[tokio::test]
async fn a_slow_reader_of_an_exec_gets_all_of_it() {
    let world = World::start();
    let keeper = world.connect().await;
    let mut exec = with_pipes(&keeper, "seq 1 200000").await;
    let mut total = 0;
    let code = loop {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        match soon(exec.output.next()).await.unwrap().unwrap() {
            ExecEvent::Stdout(bytes) => total += bytes.len(),
            ExecEvent::Exit(code) => break code,
            ExecEvent::Stderr(bytes) => panic!("{bytes:?}"),
        }
    };
    assert_eq!((code, total), (0, 1_288_895));
}

#[tokio::test]
async fn a_background_process_does_not_hold_up_the_end() {
    let world = World::start();
    let keeper = world.connect().await;
    let finished = soon(keeper.run(&shell("sleep 1000 & echo done"), Bytes::new(), 100))
        .await
        .unwrap();
    assert_eq!((finished.code, finished.stdout), (0, b"done\n".to_vec()));
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes_and_signals_reach_it() {
    let world = World::start();
    let keeper = world.connect().await;
    let script =
        "trap 'stty size' WINCH; trap 'echo int' INT; tty; stty size; while :; do sleep 0.05; done";
    let mut exec = on_terminal(&keeper, script).await;
    assert!(says(&mut exec, "20 90").await.contains("/dev/pts/"));
    exec.input
        .resize(Size { cols: 91, rows: 21 })
        .await
        .unwrap();
    says(&mut exec, "21 91").await;
    exec.input.signal("INT").await.unwrap();
    says(&mut exec, "int").await;
    exec.input.write("\u{3}".into()).await.unwrap();
    says(&mut exec, "int").await;
    exec.input.signal("KILL").await.unwrap();
    assert_eq!(exits(&mut exec).await, 137);
    assert!(
        exec.input
            .resize(Size { cols: 1, rows: 1 })
            .await
            .unwrap_err()
            .is_not_found()
    );
}

#[tokio::test]
async fn a_terminals_end_of_input_is_what_ctrl_d_is() {
    let world = World::start();
    let keeper = world.connect().await;
    let mut exec = on_terminal(&keeper, "cat; echo after").await;
    exec.input.write("line\n".into()).await.unwrap();
    says(&mut exec, "line").await;
    exec.input.end().unwrap();
    says(&mut exec, "after").await;
    assert_eq!(exits(&mut exec).await, 0);
}

#[tokio::test]
async fn signals_reach_the_whole_group_of_an_exec_with_pipes() {
    let world = World::start();
    let keeper = world.connect().await;
    let mut exec = with_pipes(&keeper, "echo ready; sleep 1000; echo never").await;
    says(&mut exec, "ready").await;
    assert!(
        exec.input
            .resize(Size::default())
            .await
            .unwrap_err()
            .is_conflict()
    );
    exec.input.signal("TERM").await.unwrap();
    assert_eq!(exits(&mut exec).await, 143);
}

#[tokio::test]
async fn dropping_an_exec_kills_it_and_all_that_it_started() {
    let world = World::start();
    let keeper = world.connect().await;
    let script = format!(
        "echo $$ > {0}/a; setsid sh -c 'echo $$ > {0}/b; sleep 1000' & wait",
        world.path("")
    );
    let exec = with_pipes(&keeper, &script).await;
    let pids = [
        content(&world.folder().join("a")).await,
        content(&world.folder().join("b")).await,
    ];
    drop(exec);
    eventually("they end", || async {
        if pids.iter().any(|pid| is_alive(pid)) {
            Err("alive")
        } else {
            Ok(())
        }
    })
    .await;
    // So does losing the connection.
    let other = world.connect().await;
    let script = format!("echo $$ > {}/c; exec sleep 1000", world.path(""));
    let exec = with_pipes(&other, &script).await;
    let pid = content(&world.folder().join("c")).await;
    drop((other, exec));
    eventually("it ends", || async {
        if is_alive(&pid) { Err("alive") } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_executed_says_why() {
    let world = World::start();
    let keeper = world.connect().await;
    let start = |argv: &[&str]| StartExec {
        program: program(argv),
        terminal: None,
    };
    let missing = keeper.exec(&start(&["no-such-thing"])).await.unwrap_err();
    assert!(missing.is_not_found());
    assert_eq!(missing.to_string(), "command not found: no-such-thing");
    assert!(keeper.exec(&start(&[])).await.is_err());
}

#[tokio::test]
async fn every_process_carries_the_session() {
    let world = World::start();
    let keeper = world.connect().await;
    let mut with_env = shell("echo $BERTH_SESSION $BERTH_STATE $EXTRA; pwd");
    with_env.env.insert("EXTRA".to_owned(), "more".to_owned());
    with_env.cwd = Some("/usr".to_owned());
    let finished = soon(keeper.run(&with_env, Bytes::new(), 1000))
        .await
        .unwrap();
    let expected = format!("test-session {} more\n/usr\n", world.state().display());
    assert_eq!(String::from_utf8(finished.stdout).unwrap(), expected);
    start(&keeper, "read line").await;
    // A server inside is reached as a stream, and a half-closed one answers on.
    let socket = world.path("server.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let serving = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        stream.write_all(&asked.repeat(2)).await.unwrap();
    };
    let asking = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = keeper.dial(&Dial::Unix(socket.clone())).await.unwrap();
        let question = vec![7; 500_000];
        stream.write_all(&question).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer == question.repeat(2));
    };
    soon(async { tokio::join!(serving, asking) }).await;
}

#[tokio::test]
async fn a_loopback_port_is_dialled_and_nobody_there_is_told() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::start();
    let keeper = world.connect().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Dial::Tcp(port);
    let (served, dialled) = tokio::join!(listener.accept(), keeper.dial(&target));
    let (mut served, mut dialled) = (served.unwrap().0, dialled.unwrap());
    served.write_all(b"hello").await.unwrap();
    let mut five = [0; 5];
    soon(dialled.read_exact(&mut five)).await.unwrap();
    assert_eq!(&five, b"hello");
    // Dropping it is an end for the other side.
    drop(dialled);
    assert_eq!(soon(served.read(&mut five)).await.unwrap_or(0), 0);
    drop((served, listener));
    let refused = keeper.dial(&Dial::Tcp(port)).await;
    assert!(refused.unwrap_err().is_not_found());
    let missing = Dial::Unix(world.path("none"));
    assert!(keeper.dial(&missing).await.unwrap_err().is_not_found());
}
