//! A pseudo-terminal, and a program on it.

use crate::command::{CannotStart, Prepared};
use crate::sys::duplicate;
use berth_keeper_protocol::Size;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use nix::unistd::Pid;
use portable_pty::{CommandBuilder, MasterPty, PtySize, SlavePty};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;

/// The keeper's end of a terminal.
pub(crate) struct Terminal {
    master: Box<dyn MasterPty + Send>,
    /// Held while the program runs: a program that closes its terminal must not make it end, for it can open it again.
    slave: RefCell<Option<Box<dyn SlavePty + Send>>>,
    reader: pipe::Receiver,
    writer: OwnedFd,
    /// Who writes now, first come first served.
    writing: Mutex<()>,
}

impl Terminal {
    pub(crate) fn open(size: Size) -> io::Result<Self> {
        let pair = portable_pty::native_pty_system()
            .openpty(to_pty(size))
            .map_err(io::Error::other)?;
        let fd = pair
            .master
            .as_raw_fd()
            .ok_or_else(|| io::Error::other("a terminal without a descriptor"))?;
        let (reader, writer) = (duplicate(fd)?, duplicate(fd)?);
        let flags = OFlag::from_bits_truncate(fcntl(&writer, FcntlArg::F_GETFL)?);
        fcntl(&writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            master: pair.master,
            slave: RefCell::new(Some(pair.slave)),
            // No pipe, but what tokio does with one is right for any descriptor that can be polled.
            reader: pipe::Receiver::from_owned_fd_unchecked(reader)?,
            writer,
            writing: Mutex::new(()),
        })
    }

    /// Starts a program on it, as leader of a session of its own.
    pub(crate) fn spawn(&self, prepared: &Prepared) -> Result<i32, CannotStart> {
        let name = prepared.argv[0].clone();
        let failed = |reason: String| CannotStart::Failed {
            program: name.clone(),
            reason,
        };
        let mut builder = CommandBuilder::from_argv(prepared.argv.iter().map(Into::into).collect());
        if prepared.argv[0].contains('/') {
            // It was looked up already, by our rules.
            builder.get_argv_mut()[0] = prepared.file.clone().into();
        }
        builder.env_clear();
        for (variable, value) in &prepared.env {
            builder.env(variable, value);
        }
        if !prepared.env.contains_key(std::ffi::OsStr::new("TERM")) {
            builder.env("TERM", "xterm-256color");
        }
        builder.cwd(&prepared.cwd);
        let slave = self.slave.borrow();
        let slave = slave
            .as_ref()
            .ok_or_else(|| failed("the terminal has ended".to_owned()))?;
        // Dropping the child is all right: it is reaped with all others.
        let child = slave
            .spawn_command(builder)
            .map_err(|error| failed(format!("{error:#}")))?;
        child
            .process_id()
            .and_then(|pid| i32::try_from(pid).ok())
            .ok_or_else(|| failed("it has no process id".to_owned()))
    }

    /// Lets go of the program's end: once everybody else has, too, reading comes to an end.
    pub(crate) fn release(&self) {
        self.slave.borrow_mut().take();
    }

    /// Waits until there is something to read. May wake for nothing.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.reader.readable().await
    }

    /// Reads what is there; 0 at the end.
    pub(crate) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self.reader.try_read(room) {
            // All other ends are closed.
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => Ok(0),
            result => result,
        }
    }

    /// Types all of it, as fast as the program reads.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        while !bytes.is_empty() {
            match nix::unistd::write(&self.writer, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => self.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Registered only while it is waited for: a terminal is writable at each of its events, and would wake us for all.
    async fn writable(&self) -> io::Result<()> {
        pipe::Sender::from_owned_fd_unchecked(self.writer.try_clone()?)?
            .writable()
            .await
    }

    /// Tells the program that no more input comes, where its terminal has a way to say so.
    pub(crate) async fn end_input(&self) -> io::Result<()> {
        let settings = tcgetattr(&self.writer)?;
        let end = settings.control_chars[SpecialCharacterIndices::VEOF as usize];
        if settings.local_flags.contains(LocalFlags::ICANON) && end != 0 {
            self.write_all(&[end]).await?;
        }
        Ok(())
    }

    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        self.master.resize(to_pty(size)).map_err(io::Error::other)
    }

    /// Signals the foreground group, or `leader` where there is none.
    pub(crate) fn signal(&self, signal: Signal, leader: i32) -> nix::Result<()> {
        match self.master.process_group_leader() {
            Some(group) => killpg(Pid::from_raw(group), signal),
            None => kill(Pid::from_raw(leader), signal),
        }
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

fn to_pty(size: Size) -> PtySize {
    PtySize {
        rows: size.rows,
        cols: size.cols,
        pixel_width: 0,
        pixel_height: 0,
    }
}
