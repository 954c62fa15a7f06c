//! A session's processes where no control group holds them: what descends from the keeper, which gets its descendants'
//! orphans, and whatever carries the session's mark in its environment.

use crate::process::{self, Process, Stat};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What belongs to a session.
#[derive(Debug)]
pub(crate) struct Tree {
    /// What every process of the session has in its environment.
    pub(crate) mark: String,
    /// The root of the tree, when it was started.
    pub(crate) keeper: Option<Process>,
}

impl Tree {
    /// Its processes, the keeper first where it lives.
    fn members(&self) -> io::Result<Vec<Process>> {
        let all = process::all()?;
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut members: HashSet<i32> = all
            .iter()
            .filter(|stat| {
                Some(stat.process) == self.keeper
                    || process::has_variable(stat.process.pid, &self.mark)
            })
            .map(|stat| stat.process.pid)
            .collect();
        members.remove(&own);
        loop {
            let before = members.len();
            for Stat {
                process, parent, ..
            } in &all
            {
                if members.contains(parent) && process.pid != own {
                    members.insert(process.pid);
                }
            }
            if members.len() == before {
                break;
            }
        }
        let mut members: Vec<Process> = all
            .iter()
            .map(|stat| stat.process)
            .filter(|process| members.contains(&process.pid))
            .collect();
        members.sort_by_key(|process| Some(*process) != self.keeper);
        Ok(members)
    }

    /// Kills all of it and waits until nothing is left. The keeper goes last: as long as it lives, what a killed process
    /// leaves behind stays in the tree.
    ///
    /// # Errors
    /// What is left after `limit`.
    pub(crate) fn kill(&self, limit: Duration) -> Result<(), Vec<i32>> {
        let since = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let members = self.members().unwrap_or_default();
            if members.is_empty() {
                return Ok(());
            }
            if since.elapsed() > limit {
                return Err(members.iter().map(|process| process.pid).collect());
            }
            let others: Vec<&Process> = members
                .iter()
                .filter(|process| Some(**process) != self.keeper)
                .collect();
            let doomed = if others.is_empty() {
                members.iter().collect()
            } else {
                others
            };
            for process in doomed {
                if let Err(fault) = process.signal(Signal::SIGKILL) {
                    tracing::debug!(pid = process.pid, %fault, "cannot kill a process");
                }
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}
