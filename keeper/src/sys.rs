//! What has no safe form in the crates at hand.
#![expect(
    unsafe_code,
    reason = "system calls; everything else here is safe code"
)]

use nix::libc;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// 128 + n when signal n ended it.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
}

/// Reaps one child that has ended, whichever; `None`: there is none now. Unlike nix's, it knows real-time signals.
pub(crate) fn reap_any() -> Option<(i32, Ending)> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let ending = if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        Ending {
            code: 128 + signal,
            signal: Some(signal),
        }
    } else {
        Ending {
            code: libc::WEXITSTATUS(status),
            signal: None,
        }
    };
    Some((pid, ending))
}

/// Gives every signal its default action: a shell that started us with `&` has made us ignore SIGINT and SIGQUIT, and all
/// our children would inherit that.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // The Rust runtime ignores SIGPIPE, which makes it an error of `write`; `Command` gives it back to children.
        if signal != libc::SIGPIPE {
            // SAFETY: no handler is installed; what has no default to set answers an error.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    nix::sys::signal::SigSet::empty().thread_set_mask().ok();
}

/// Another descriptor of the same open file, closed on exec.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; a descriptor that is not open is an error.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Closes all descriptors but the standard three. Only for a process that has opened nothing itself yet: what is open then
/// was left open by whoever started it, who may wait for its end.
pub(crate) fn close_inherited() {
    let (first, last, flags) = (3_u32, u32::MAX, 0_u32);
    // SAFETY: no memory is involved, and nobody here owns any of these descriptors. An old kernel answers an error.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Parent,
    Child,
}

/// Forks. Only for a process that has one thread yet.
pub(crate) fn fork() -> io::Result<Side> {
    // SAFETY: the process has one thread, so that no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        pid if pid > 0 => Ok(Side::Parent),
        _ => Err(io::Error::last_os_error()),
    }
}
