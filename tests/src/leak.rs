//! What must not be left behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};

/// A process that carries a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its number.
    pub pid: i32,
    /// What it runs.
    pub command: String,
}

/// Every process whose environment holds an entry that begins so, as `BERTH_SESSION=<id>`.
pub fn processes_with(prefix: &str) -> Vec<Leftover> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let carries = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            environ
                .split(|byte| *byte == 0)
                .any(|entry| entry.starts_with(prefix.as_bytes()))
        })
    };
    pids.filter(carries)
        .map(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            Leftover { pid, command }
        })
        .collect()
}

/// Ends what a failed test left, so that it does not spoil the next.
pub(crate) fn end_processes_with(prefix: &str) {
    for leftover in processes_with(prefix) {
        let _ = kill(Pid::from_raw(leftover.pid), Signal::SIGKILL);
    }
}

/// Every path below a folder that is named after a session.
pub(crate) fn paths_named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().contains(name) {
                found.push(entry.path());
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found
}
