//! Nothing is left of what was started, and nothing waits to be reaped.

use crate::world::{
    World, content, eventually, is_alive, program, read_until, run, shell, soon, start,
    until_ended, zombies_of,
};
use berth_host::keeper::protocol::ProgramState;
use std::process::Command;
use std::time::Duration;

/// Processes that do not want to be found, or to end; each writes its id to a file, named by `folder`.
const STUBBORN: &str = r#"
cd "$FOLDER"
setsid sh -c 'trap "" TERM HUP; echo $$ > session; while :; do sleep 0.1; done' &
sh -c '(setsid sh -c "echo \$\$ > orphan; exec sleep 1000" &)'
sh -c 'trap "sleep 1000 & echo \$! > late; sleep 1000" TERM HUP; echo $$ > breeder; while :; do sleep 0.1; done' &
sh -c 'kill -STOP $$' & echo $! > stopped
"#;
/// The program waits until they all run.
const ALL_RUN: &str =
    "while ! [ -s orphan -a -s session -a -s breeder -a -s stopped ]; do sleep 0.05; done;";
const MARKS: [&str; 4] = ["session", "orphan", "breeder", "stopped"];

async fn start_stubborn(
    world: &World,
    keeper: &berth_host::keeper::Keeper,
    then: &str,
) -> Vec<String> {
    let mut stubborn = run("run-1", shell(&format!("{STUBBORN}{ALL_RUN}{then}")));
    let folder = world.path("");
    stubborn.program.env.insert("FOLDER".to_owned(), folder);
    keeper.start(&stubborn).await.unwrap();
    let mut pids = Vec::new();
    for mark in MARKS {
        pids.push(content(&world.folder().join(mark)).await);
    }
    pids
}

#[tokio::test]
async fn stop_ends_sessions_orphans_and_those_that_breed() {
    let world = World::start();
    let keeper = world.connect().await;
    let mut pids = start_stubborn(&world, &keeper, "wait").await;
    soon(keeper.stop(Duration::from_millis(300))).await.unwrap();
    pids.extend(std::fs::read_to_string(world.folder().join("late")).ok());
    for pid in &pids {
        assert!(!is_alive(pid), "{pid} of {pids:?}");
    }
    assert!(matches!(
        keeper.status().await.unwrap().program,
        ProgramState::Exited { .. }
    ));
    assert_eq!(zombies_of(world.child.id()), 0);
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_after_it_but_execs_do_not() {
    let world = World::start();
    let keeper = world.connect().await;
    let mut exec = keeper
        .exec(&berth_host::keeper::protocol::StartExec {
            program: program(&["cat"]),
            terminal: None,
        })
        .await
        .unwrap();
    let pids = start_stubborn(&world, &keeper, "exit 3").await;
    let exited = ProgramState::Exited {
        code: 3,
        signal: None,
    };
    assert_eq!(until_ended(&keeper).await.program, exited);
    // Release waits until they are gone.
    soon(async {
        exec.input.write("still here".into()).await.unwrap();
        let event = exec.output.next().await.unwrap().unwrap();
        assert_eq!(
            event,
            berth_host::keeper::ExecEvent::Stdout("still here".into())
        );
    })
    .await;
    soon(keeper.release("run-1")).await.unwrap();
    for pid in &pids {
        assert!(!is_alive(pid), "{pid} of {pids:?}");
    }
}

#[tokio::test]
async fn orphans_are_reaped_and_do_not_take_the_programs_exit_code() {
    let world = World::start();
    let keeper = world.connect().await;
    let script = "for i in 1 2 3 4 5 6 7 8 9; do (sh -c 'exit 9' &) ; done; sleep 0.2; exit 4";
    start(&keeper, script).await;
    let exited = ProgramState::Exited {
        code: 4,
        signal: None,
    };
    assert_eq!(until_ended(&keeper).await.program, exited);
    eventually("all are reaped", || async {
        match zombies_of(world.child.id()) {
            0 => Ok(()),
            some => Err(some),
        }
    })
    .await;
}

#[tokio::test]
async fn the_end_is_told_even_where_something_holds_the_terminal() {
    let world = World::start();
    let keeper = world.connect().await;
    start(
        &keeper,
        "trap '' HUP TERM; (sleep 1000 &); echo last words; exit 6",
    )
    .await;
    let exited = ProgramState::Exited {
        code: 6,
        signal: None,
    };
    assert_eq!(until_ended(&keeper).await.program, exited);
    assert_eq!(crate::world::all_output(&keeper).await, "last words\r\n");
}

#[tokio::test]
async fn a_program_that_lets_go_of_its_terminal_runs_on() {
    let world = World::start();
    let keeper = world.connect().await;
    start(
        &keeper,
        "exec < /dev/null > /dev/null 2>&1; sleep 0.3; echo back > /dev/tty; exit 0",
    )
    .await;
    let mut output = keeper.output(0, None).await.unwrap();
    read_until(&mut output, "back").await;
}

#[tokio::test]
async fn it_is_a_good_first_process_of_a_container() {
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("-Ur");
    }
    unshare.args([
        "-pf",
        "--kill-child",
        "--mount-proc",
        env!("CARGO_BIN_EXE_berth-keeper"),
        "run",
    ]);
    let mut world = World::of(unshare);
    let keeper = world.connect().await;
    assert_eq!(keeper.hello().pid, 1);
    start_stubborn(&world, &keeper, "exit 7").await;
    until_ended(&keeper).await;
    // What is left inside, but for the keeper and this very look.
    let left = r"for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || echo $p; done";
    eventually("nothing is left", || async {
        let found = keeper.run(&shell(left), "".into(), 10_000).await;
        match String::from_utf8(found.unwrap().stdout).unwrap() {
            none if none.is_empty() => Ok(()),
            some => Err(some),
        }
    })
    .await;
    keeper.release("run-1").await.unwrap();
    assert_eq!(world.exit_code().await, Some(7));
}

#[tokio::test]
async fn side_programs_start_before_the_main_one_and_end_with_it() {
    let world = World::start();
    let keeper = world.connect().await;
    let mark = world.path("mark");
    let mut start = run("run-1", shell("read line"));
    start.sidecars = vec![shell(&format!("echo $$ > {mark}; exec sleep 1000"))];
    keeper.start(&start).await.unwrap();
    let pid = content(mark.as_ref()).await;
    assert!(is_alive(&pid));
    keeper.input("\n".into()).await.unwrap();
    until_ended(&keeper).await;
    soon(keeper.release("run-1")).await.unwrap();
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn without_a_side_program_nothing_runs() {
    let world = World::start();
    let keeper = world.connect().await;
    let mark = world.path("mark");
    let mut start = run("run-1", shell(&format!("echo ran > {mark}")));
    let first = world.path("first");
    start.sidecars = vec![
        shell(&format!("echo $$ > {first}; exec sleep 1000")),
        program(&["no-such-helper"]),
    ];
    let failed = keeper.start(&start).await.unwrap();
    let message = "command not found: no-such-helper".to_owned();
    assert_eq!(failed.program, ProgramState::Failed { message });
    assert!(!world.folder().join("mark").exists());
    if let Ok(pid) = std::fs::read_to_string(first) {
        assert!(!is_alive(&pid));
    }
}
