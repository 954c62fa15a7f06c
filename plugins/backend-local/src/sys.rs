//! The system calls that need `unsafe`: starting a daemon, and signals to a process that cannot be mistaken.
#![expect(
    unsafe_code,
    reason = "a daemon is made between fork and exec, and pidfds have no safe wrapper here"
)]

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, fork, read, setsid, write};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A program to run on its own, out of reach of what happens to this process.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    pub(crate) program: &'a Path,
    pub(crate) args: &'a [String],
    /// Its whole environment.
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) cwd: &'a Path,
    /// Where its standard output and error go.
    pub(crate) log: File,
    /// Gets the daemon's own line of `/proc/PID/stat` before the program is run.
    pub(crate) record: File,
    /// `cgroup.procs` files of the groups that it joins.
    pub(crate) groups: Vec<File>,
    /// Whom to become: user and group.
    pub(crate) identity: Option<(u32, u32)>,
}

/// Runs a daemon: in a process session of its own, no child of ours, with no open file of ours, with signals and umask
/// as a fresh login has them. Returns once its program runs.
///
/// # Errors
/// It could not be started, and nothing of it is left.
pub(crate) fn spawn_daemon(daemon: Daemon<'_>) -> io::Result<()> {
    let Daemon { record, groups, .. } = daemon;
    let mut command = Command::new(daemon.program);
    command
        .args(daemon.args)
        .env_clear()
        .envs(daemon.env)
        .current_dir(daemon.cwd)
        .stdin(Stdio::null())
        .stdout(daemon.log.try_clone()?)
        .stderr(daemon.log);
    if let Some((uid, gid)) = daemon.identity {
        command.uid(uid).gid(gid);
    }
    // SAFETY: `detach` only makes calls that are allowed between fork and exec, and allocates nothing.
    unsafe { command.pre_exec(move || detach(&record, &groups)) };
    // The child is the daemon's short-lived parent.
    command.spawn()?.wait()?;
    Ok(())
}

/// Runs in the child, between fork and exec. An error is told to the parent by the standard library.
fn detach(record: &File, groups: &[File]) -> io::Result<()> {
    setsid()?;
    // SAFETY: the child of a fork in a process with threads may only make async-signal-safe calls, as all below are.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => {
            // SAFETY: ends this process at once, without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Child => {}
    }
    umask(Mode::from_bits_truncate(0o022));
    for number in Signal::iterator() {
        if matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: sets the default action, no handler of ours.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    for group in groups {
        write(group, b"0")?;
    }
    let stat = open(
        c"/proc/self/stat",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut line = [0_u8; 1024];
    let length = read(&stat, &mut line)?;
    write(record, &line[..length])?;
    // SAFETY: takes numbers only; marks what is open beyond the standard streams to be closed by exec.
    let marked = unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC.cast_signed(),
        )
    };
    if marked != 0 {
        // Kernels before 5.11 lack the flag. What Rust opens is marked already.
        return Ok(());
    }
    Ok(())
}

/// A lasting name of a process: its number may be used again, this may not.
pub(crate) fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call above made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process of a pidfd.
pub(crate) fn signal_pidfd(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null `info` means the same as kill(2) would send; the rest are numbers.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as libc::c_int,
            info,
            0,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits until the process of a pidfd has ended. Cancel safe.
pub(crate) async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: an `OwnedFd` gives the same descriptor for as long as it lives, and it is moved in.
    let ended = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    ended.map_err(io::Error::other)?.readable().await.map(drop)
}
