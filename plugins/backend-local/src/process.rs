//! Processes as `/proc` tells them.

use crate::sys;
use nix::sys::signal::Signal;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// One process, not to be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// In the kernel's ticks since it was booted.
    start_time: u64,
}

/// A line of `/proc/PID/stat`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(crate) parent: i32,
    /// It has ended, and only waits for its parent to hear of it.
    pub(crate) ended: bool,
}

impl Stat {
    /// Reads a line of `/proc/PID/stat`; `None` where it is not one.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // The name stands in brackets and may hold anything, brackets included.
        let (pid, rest) = line.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            process: Process {
                pid: pid.parse().ok()?,
                start_time: fields.get(19)?.parse().ok()?,
            },
            parent: fields.get(1)?.parse().ok()?,
            ended: matches!(fields.first()?, &"Z" | &"X"),
        })
    }

    /// What `/proc` says of this number now; `None` where there is no such process.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

impl Process {
    /// Whether it runs.
    pub(crate) fn is_alive(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.process == self && !stat.ended)
    }

    /// A descriptor that becomes readable when it ends; `None` where it has ended.
    pub(crate) fn watch(self) -> io::Result<Option<OwnedFd>> {
        match sys::open_pidfd(self.pid) {
            // The number is held by the descriptor from here on, so it cannot change hands after the check.
            Ok(pidfd) => Ok(self.is_alive().then_some(pidfd)),
            Err(fault) if fault.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Sends a signal; one that has ended needs none.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pidfd) = self.watch()? else {
            return Ok(());
        };
        match sys::signal_pidfd(&pidfd, signal) {
            Err(fault) if fault.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}

/// Every process that runs, ended ones not.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let pids = fs::read_dir("/proc")?
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids
        .filter_map(Stat::of)
        .filter(|stat| !stat.ended)
        .collect())
}

/// Whether a process was started with this variable; no where we may not see.
pub(crate) fn has_variable(pid: i32, assignment: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
        environ
            .split(|byte| *byte == 0)
            .any(|entry| entry == assignment.as_bytes())
    })
}

/// Differs for each boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_read_over() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1\n";
        assert_eq!(
            Stat::parse(line),
            Some(Stat {
                process: Process {
                    pid: 42,
                    start_time: 12345
                },
                parent: 7,
                ended: false
            })
        );
        assert_eq!(Stat::parse("42"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = Stat::of(pid).unwrap().process;
        assert!(me.is_alive());
        let earlier = Process {
            start_time: me.start_time - 1,
            ..me
        };
        assert!(!earlier.is_alive());
        earlier.signal(Signal::SIGKILL).unwrap();
    }
}
