//! Starting, ending, and what is left.

use crate::world::{World, all_output, program, rest, run, shell, soon, start, until_ended};
use berth_host::keeper::protocol::{ExitRecord, ProgramState};
use std::fs;
use std::time::Duration;

#[tokio::test]
async fn a_program_runs_and_its_output_and_exit_code_are_kept_until_release() {
    let mut world = World::start();
    let keeper = world.connect().await;
    assert_eq!(keeper.hello().session, "test-session");
    assert_eq!(
        keeper.status().await.unwrap().program,
        ProgramState::Waiting
    );
    start(&keeper, "echo hello; exit 7").await;
    let ended = until_ended(&keeper).await;
    let exited = ProgramState::Exited {
        code: 7,
        signal: None,
    };
    assert_eq!(ended.program, exited);
    assert_eq!(all_output(&keeper).await, "hello\r\n");
    // Others, later, see the same.
    let other = world.connect().await;
    assert_eq!(other.status().await.unwrap().program, exited);
    assert_eq!(all_output(&other).await, "hello\r\n");
    keeper.release("run-1").await.unwrap();
    soon(keeper.closed()).await;
    assert_eq!(world.exit_code().await, Some(7));
    let record = fs::read(world.state().join("exit.json")).unwrap();
    let record: ExitRecord = serde_json::from_slice(&record).unwrap();
    assert_eq!(record.exit_code, 7);
    assert_eq!(record.boot_id, keeper.hello().boot_id);
    assert!(!world.state().join("keeper.sock").exists());
}

#[tokio::test]
async fn starting_is_idempotent_by_run_id() {
    let world = World::start();
    let keeper = world.connect().await;
    let first = start(&keeper, "echo once; read line").await;
    assert_eq!(start(&keeper, "echo twice").await.program, first.program);
    let other = keeper.start(&run("run-2", shell("echo other"))).await;
    assert!(other.unwrap_err().is_conflict());
    assert!(keeper.release("run-1").await.unwrap_err().is_conflict());
    let mut output = keeper.output(0, None).await.unwrap();
    crate::world::read_until(&mut output, "once\r\n").await;
    keeper.input("\n".into()).await.unwrap();
    let ended = until_ended(&keeper).await;
    // Ended, too, the same one is not started again; another is, and its bytes are numbered on.
    assert_eq!(start(&keeper, "echo thrice").await.program, ended.program);
    assert!(keeper.release("run-0").await.unwrap_err().is_conflict());
    let mut second = run("run-2", shell("printf two"));
    second.first_offset = ended.next_offset;
    keeper.start(&second).await.unwrap();
    until_ended(&keeper).await;
    assert_eq!(all_output(&keeper).await, "once\r\n\r\ntwo");
    let mut output = keeper.output(ended.next_offset, None).await.unwrap();
    assert_eq!(rest(&mut output).await.unwrap(), b"two");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_why() {
    let mut world = World::start();
    let keeper = world.connect().await;
    let failed = keeper.start(&run("run-1", program(&["claude-none"]))).await;
    let message = "command not found: claude-none".to_owned();
    assert_eq!(failed.unwrap().program, ProgramState::Failed { message });
    assert_eq!(all_output(&keeper).await, "");
    let mut nowhere = run("run-2", shell("true"));
    nowhere.program.cwd = Some("/no/such/folder".to_owned());
    let message = "working directory not found: /no/such/folder".to_owned();
    let failed = keeper.start(&nowhere).await.unwrap();
    assert_eq!(failed.program, ProgramState::Failed { message });
    keeper.release("run-2").await.unwrap();
    assert_eq!(world.exit_code().await, Some(127));
}

#[tokio::test]
async fn a_signal_ends_a_program_with_128_and_its_number() {
    let world = World::start();
    let keeper = world.connect().await;
    start(&keeper, "kill -KILL $$").await;
    let exited = ProgramState::Exited {
        code: 137,
        signal: Some(9),
    };
    assert_eq!(until_ended(&keeper).await.program, exited);
}

#[tokio::test]
async fn told_to_end_the_keeper_ends_its_program_and_takes_its_exit_code() {
    let mut world = World::start();
    let keeper = world.connect().await;
    start(
        &keeper,
        "trap 'exit 5' TERM HUP; echo ready; while :; do sleep 0.05; done",
    )
    .await;
    let mut output = keeper.output(0, None).await.unwrap();
    crate::world::read_until(&mut output, "ready").await;
    let pid = nix::unistd::Pid::from_raw(world.child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(world.exit_code().await, Some(5));
}

#[tokio::test]
async fn stop_gives_grace_then_kills_and_the_keeper_stays() {
    let world = World::start();
    let keeper = world.connect().await;
    start(
        &keeper,
        "trap '' TERM HUP; echo ready; while :; do sleep 0.05; done",
    )
    .await;
    let mut output = keeper.output(0, None).await.unwrap();
    crate::world::read_until(&mut output, "ready").await;
    let stopped = soon(keeper.stop(Duration::from_millis(100))).await.unwrap();
    let exited = ProgramState::Exited {
        code: 137,
        signal: Some(9),
    };
    assert_eq!(stopped.program, exited);
    // Nothing running is a success, too.
    assert_eq!(keeper.stop(Duration::ZERO).await.unwrap().program, exited);
}

#[tokio::test]
async fn a_release_does_not_wait_for_those_who_watch() {
    let mut world = World::start();
    let keeper = world.connect().await;
    start(&keeper, "exit 0").await;
    until_ended(&keeper).await;
    let mut changes = keeper.changes().await.unwrap();
    changes.next().await.unwrap().unwrap();
    let glob = world.path("*");
    let follow = berth_host::keeper::protocol::Follow {
        glob,
        ..Default::default()
    };
    let mut following = keeper.follow(&follow).await.unwrap();
    let exec = berth_host::keeper::protocol::StartExec {
        program: shell("trap '' TERM HUP; sleep 1000 & echo $!; wait"),
        terminal: None,
    };
    let mut exec = keeper.exec(&exec).await.unwrap();
    let said = exec.output.next().await.unwrap().unwrap();
    let berth_host::keeper::ExecEvent::Stdout(pid) = said else {
        panic!("{said:?}");
    };
    keeper.release("run-1").await.unwrap();
    while let Some(Ok(_)) = soon(changes.next()).await {}
    while let Some(Ok(_)) = soon(following.next()).await {}
    assert_eq!(world.exit_code().await, Some(0));
    // Nor does anything outlive the keeper.
    assert!(!crate::world::is_alive(&String::from_utf8_lossy(&pid)));
}

#[tokio::test]
async fn what_was_left_open_by_others_is_closed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let keep = nix::unistd::dup(&writer).unwrap();
    nix::fcntl::fcntl(
        &keep,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let world = World::start();
    world.connect().await;
    drop((writer, keep));
    // Nobody else has it open, so this is the end; it would wait for ever otherwise.
    let read = tokio::task::spawn_blocking(|| std::io::read_to_string(reader));
    assert_eq!(soon(read).await.unwrap().unwrap(), "");
}
