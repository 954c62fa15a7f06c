//! `berth-keeper connect`: the keeper's socket on standard input and output, where the host cannot see the socket itself.
//!
//! Each direction ends for itself: the end of standard input shuts the socket's writing half down, and what the keeper
//! still says is copied to its end.

use crate::complain;
use berth_keeper_protocol::{SOCKET_FILE, STATE_VARIABLE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How long a keeper that is just starting is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn connect() -> ExitCode {
    match relay() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("connect: {error}"), 1),
    }
}

fn relay() -> io::Result<()> {
    let state = std::env::var_os(STATE_VARIABLE)
        .ok_or_else(|| io::Error::other(format!("{STATE_VARIABLE} is not set")))?;
    let mut incoming = reach(Path::new(&state))?;
    let mut outgoing = incoming.try_clone()?;
    // Not joined: it may wait for input for ever, and ends with the process.
    thread::spawn(move || {
        copy(&mut io::stdin().lock(), &mut outgoing).ok();
        outgoing.shutdown(Shutdown::Write).ok();
    });
    copy(&mut incoming, &mut io::stdout().lock())
}

fn reach(state: &Path) -> io::Result<UnixStream> {
    let since = Instant::now();
    loop {
        match try_reach(state) {
            Ok(stream) => return Ok(stream),
            Err(error) if since.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// By the open folder, for the socket's path may be longer than its address can hold.
fn try_reach(state: &Path) -> io::Result<UnixStream> {
    let folder = File::open(state)?;
    let short = format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd());
    UnixStream::connect(short).or_else(|_| UnixStream::connect(state.join(SOCKET_FILE)))
}

/// Copies to the end, also where somebody has set our standard input or output not to block.
fn copy(from: &mut (impl Read + AsFd), to: &mut (impl Write + AsFd)) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            // A keeper that ends does not read what is on its way to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => {
                recover(error, from, PollFlags::POLLIN)?;
                continue;
            }
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match to.write(rest).and_then(|count| to.flush().map(|()| count)) {
                Ok(count) => rest = &rest[count..],
                // Nobody reads any more: nothing is to be copied.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => recover(error, to, PollFlags::POLLOUT)?,
            }
        }
    }
}

fn recover(error: io::Error, file: &impl AsFd, wanted: PollFlags) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => {
            poll(&mut [PollFd::new(file.as_fd(), wanted)], PollTimeout::NONE)?;
            Ok(())
        }
        _ => Err(error),
    }
}
