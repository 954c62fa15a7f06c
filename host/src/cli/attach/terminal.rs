//! The terminal that `berth` itself was started on.

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, SetArg, Termios};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use terminal_size::{Height, Width, terminal_size_of};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How much is read at once.
const READ: usize = 4096;

/// The largest size that the server takes.
const LARGEST: u16 = 1000;

/// A terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) cols: u16,
    pub(super) rows: u16,
}

/// Standard input and output, both a terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    // Waited on, but not set to non-blocking: that would change it for the shell too, which shares it.
    input: AsyncFd<OwnedFd>,
    output: File,
}

/// The terminal is raw until this is dropped.
#[derive(Debug)]
pub(super) struct Raw {
    input: OwnedFd,
    before: Termios,
}

impl Terminal {
    pub(super) fn open() -> anyhow::Result<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            bail!("attach needs a terminal; `berth logs` prints what a session wrote");
        }
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        let output = std::io::stdout().as_fd().try_clone_to_owned()?;
        #[expect(
            deprecated,
            reason = "unsound only for types that lie about their descriptor; an OwnedFd does not"
        )]
        let input = AsyncFd::with_interest(input, Interest::READABLE)
            .context("cannot wait for the terminal")?;
        Ok(Self {
            input,
            output: File::from(output),
        })
    }

    /// Gives every key through as it is typed, until the answer is dropped.
    pub(super) fn raw(&self) -> anyhow::Result<Raw> {
        let input = self.input.get_ref().try_clone()?;
        let before = termios::tcgetattr(&input).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&input, SetArg::TCSADRAIN, &raw)
            .context("cannot change the terminal's settings")?;
        Ok(Raw { input, before })
    }

    /// The size now; 80×24 where the terminal does not know.
    pub(super) fn size(&self) -> Size {
        match terminal_size_of(&self.output) {
            Some((Width(cols), Height(rows))) if cols > 0 && rows > 0 => Size {
                cols: cols.min(LARGEST),
                rows: rows.min(LARGEST),
            },
            _ => Size { cols: 80, rows: 24 },
        }
    }

    /// What was typed next; `None` when the terminal is gone. Cancel safe.
    pub(super) async fn read(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            let mut ready = self.input.readable().await?;
            // Word that there is something to read may come after it was read with what came before, and a read of an
            // empty terminal would block everything.
            if is_empty(ready.get_inner()) {
                ready.clear_ready();
                continue;
            }
            let mut bytes = vec![0; READ];
            let mut source = File::from(ready.get_inner().try_clone()?);
            match source.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    bytes.truncate(count);
                    return Ok(Some(bytes));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => return Ok(None),
                Err(error) => return Err(error).context("cannot read from the terminal"),
            }
        }
    }

    /// Writes all of it. Blocks while the terminal does not take it, which is what holds the sender back.
    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.output
            .write_all(bytes)
            .and_then(|()| self.output.flush())
            .context("cannot write to the terminal")
    }
}

fn is_empty(input: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = termios::tcsetattr(&self.input, SetArg::TCSADRAIN, &self.before) {
            super::note(&format!("berth: cannot set the terminal back: {error}"));
        }
    }
}
