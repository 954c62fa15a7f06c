//! The peer: a loop that reads a pseudo-terminal of its own, and does nothing else.

use crate::socket::{Finder, fresh_word};
use anyhow::{Result, bail};
use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// A shell on a pseudo-terminal.
pub(crate) struct Pty {
    reader: Box<dyn Read + Send>,
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    buffer: Vec<u8>,
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pty {
    pub(crate) fn open() -> Result<Self> {
        let size = PtySize {
            rows: 40,
            cols: 120,
            ..PtySize::default()
        };
        let pair = native_pty_system().openpty(size)?;
        let child = pair.slave.spawn_command(CommandBuilder::new("/bin/sh"))?;
        let mut pty = Self {
            reader: pair.master.try_clone_reader()?,
            writer: pair.master.take_writer()?,
            child,
            buffer: vec![0; 64 * 1024],
        };
        let (word, command) = fresh_word();
        pty.types(&format!(" stty sane; {command}\r"))?;
        pty.until(&word)?;
        Ok(pty)
    }

    fn types(&mut self, text: &str) -> Result<()> {
        self.writer.write_all(text.as_bytes())?;
        Ok(self.writer.flush()?)
    }

    fn until(&mut self, word: &str) -> Result<u64> {
        let mut finder = Finder::new(word);
        let mut count = 0;
        loop {
            let read = self.reader.read(&mut self.buffer)?;
            if read == 0 {
                bail!("the shell ended");
            }
            count += read as u64;
            if finder.sees(&self.buffer[..read]) {
                return Ok(count);
            }
        }
    }

    /// Runs a command; its bytes and time.
    pub(crate) fn run(&mut self, command: &str) -> Result<(u64, Duration)> {
        let (word, mark) = fresh_word();
        let begin = Instant::now();
        self.types(&format!(" {command}; {mark}\r"))?;
        let count = self.until(&word)?;
        Ok((count, begin.elapsed()))
    }

    /// Types one key after another into `cat` and waits for each to come back.
    pub(crate) fn echo(&mut self, count: usize, pause: Duration) -> Result<Vec<f64>> {
        self.types(" stty -echo -icanon min 1; cat\r")?;
        std::thread::sleep(Duration::from_millis(300));
        let mut times = Vec::new();
        // What the shell still printed is read with the first key.
        for number in 0..count {
            let key = char::from(b'A' + u8::try_from(number % 26).unwrap_or(0));
            let begin = Instant::now();
            self.types(&key.to_string())?;
            self.until(&key.to_string())?;
            times.push(begin.elapsed().as_secs_f64() * 1e6);
            std::thread::sleep(pause);
        }
        self.types("\x03")?;
        Ok(times)
    }
}
