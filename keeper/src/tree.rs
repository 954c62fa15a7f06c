//! The processes below the keeper, and ending them.
//!
//! The keeper is a subreaper: whatever its children start stays below it, with `setsid` and double forks too. So the tree
//! is read from `/proc`, again and again until nothing is left.

use crate::children::Children;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fs;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often the tree is looked at while it ends. Children of ours are noticed at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A process that is stuck in the kernel may outlive SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// All processes below `root`, without those below or in `spared`.
pub(crate) fn below(root: i32, spared: &[i32]) -> Vec<i32> {
    let mut found = Vec::new();
    let mut queue = vec![root];
    let mut seen = HashSet::from([root]);
    while let Some(pid) = queue.pop() {
        for child in children_of(pid) {
            if !spared.contains(&child) && seen.insert(child) {
                found.push(child);
                queue.push(child);
            }
        }
    }
    found
}

fn children_of(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return children;
    };
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => children.extend(
                list.split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            ),
            // The thread is gone, or this kernel has no such file.
            Err(_) if thread.path().exists() => return scan_for_children(pid),
            Err(_) => {}
        }
    }
    children
}

/// The long way, for kernels built without `CONFIG_PROC_CHILDREN`.
fn scan_for_children(parent: i32) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal; one that is gone needs none.
pub(crate) fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).ok();
}

/// Ends all processes that `scope` finds: politely, and after `grace` by force. Answers how many could not be ended.
pub(crate) async fn end(
    children: &Children,
    scope: impl Fn() -> Vec<i32>,
    grace: Duration,
) -> usize {
    let deadline = Instant::now() + grace;
    let mut told = HashSet::new();
    while Instant::now() < deadline {
        let processes = look(children, &scope);
        if processes.is_empty() {
            return 0;
        }
        for pid in processes {
            if told.insert(pid) {
                send(pid, Signal::SIGHUP);
                send(pid, Signal::SIGTERM);
                // A stopped one hears the others only now.
                send(pid, Signal::SIGCONT);
            }
        }
        wait(children, deadline.min(Instant::now() + LOOK_INTERVAL)).await;
    }
    let limit = Instant::now() + KILL_LIMIT;
    loop {
        kill_all(&scope);
        wait(children, Instant::now() + LOOK_INTERVAL).await;
        let processes = look(children, &scope);
        if processes.is_empty() || Instant::now() > limit {
            return processes.len();
        }
    }
}

/// Freezes all of them, so that none can fork on, then kills them.
pub(crate) fn kill_all(scope: &impl Fn() -> Vec<i32>) {
    let mut frozen = HashSet::new();
    // A process can start another between our look and our signal, but not for ever: each round freezes the last one's.
    for _ in 0..64 {
        let mut fresh = scope();
        fresh.retain(|pid| frozen.insert(*pid));
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            send(pid, Signal::SIGSTOP);
        }
    }
    for pid in frozen {
        send(pid, Signal::SIGKILL);
    }
}

fn look(children: &Children, scope: &impl Fn() -> Vec<i32>) -> Vec<i32> {
    children.reap();
    scope()
}

async fn wait(children: &Children, until: Instant) {
    tokio::select! {
        () = children.reaped.notified() => {}
        () = sleep_until(until) => {}
    }
}
