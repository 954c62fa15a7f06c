//! A client of a console, as plain as can be.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

const LIMIT: Duration = Duration::from_mins(2);

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What it types with.
#[derive(Debug)]
pub(crate) struct Keys(SplitSink<Stream, Message>);

/// What it sees.
#[derive(Debug)]
pub(crate) struct Screen(SplitStream<Stream>);

/// Finds a word in a stream that comes in pieces.
#[derive(Debug)]
pub(crate) struct Finder {
    word: Vec<u8>,
    end: Vec<u8>,
}

impl Finder {
    pub(crate) fn new(word: &str) -> Self {
        Self {
            word: word.as_bytes().to_vec(),
            end: Vec::new(),
        }
    }

    pub(crate) fn sees(&mut self, piece: &[u8]) -> bool {
        let overlap = self.word.len() - 1;
        self.end
            .extend_from_slice(&piece[..piece.len().min(overlap)]);
        let found = memchr::memmem::find(&self.end, &self.word).is_some()
            || memchr::memmem::find(piece, &self.word).is_some();
        self.end
            .extend_from_slice(&piece[piece.len().min(overlap)..]);
        let cut = self.end.len().saturating_sub(overlap);
        self.end.drain(..cut);
        found
    }
}

/// A word that was never seen before, and a command that prints it without holding it.
pub(crate) fn fresh_word() -> (String, String) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    (
        format!("<<done-{number}>>"),
        format!("printf '<<%s-{number}>>\\n' done"),
    )
}

/// Joins a session's console.
pub(crate) async fn join(address: &str, session: &str) -> Result<(Keys, Screen)> {
    let url = format!("ws://{address}/ws/console/{session}?cols=120&rows=40");
    let (socket, _) = connect_async_with_config(url, None, true).await?;
    let (sink, stream) = socket.split();
    Ok((Keys(sink), Screen(stream)))
}

/// Joins and waits for a prompt that answers.
pub(crate) async fn join_shell(address: &str, session: &str) -> Result<(Keys, Screen)> {
    let (mut keys, mut screen) = join(address, session).await?;
    let (word, command) = fresh_word();
    keys.types(&format!(" stty sane; {command}\r")).await?;
    screen.until(&word).await?;
    screen.until_quiet(Duration::from_millis(150)).await?;
    Ok((keys, screen))
}

impl Keys {
    pub(crate) async fn types(&mut self, text: &str) -> Result<()> {
        self.0
            .send(Message::Binary(Bytes::copy_from_slice(text.as_bytes())))
            .await?;
        Ok(())
    }
}

impl Screen {
    /// The next bytes.
    pub(crate) async fn next(&mut self) -> Result<Bytes> {
        loop {
            match self.0.next().await.context("the console closed")?? {
                Message::Binary(bytes) => return Ok(bytes),
                Message::Text(text) => bail!("the server said {text}"),
                Message::Close(frame) => bail!("the console closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Reads until a word comes; how many bytes that were.
    pub(crate) async fn until(&mut self, word: &str) -> Result<u64> {
        let mut finder = Finder::new(word);
        let mut count = 0;
        timeout(LIMIT, async {
            loop {
                let bytes = self.next().await?;
                count += bytes.len() as u64;
                if finder.sees(&bytes) {
                    return Ok(count);
                }
            }
        })
        .await
        .with_context(|| format!("{word} did not come"))?
    }

    /// Reads until nothing came for so long.
    pub(crate) async fn until_quiet(&mut self, quiet: Duration) -> Result<()> {
        while let Ok(next) = timeout(quiet, self.next()).await {
            next?;
        }
        Ok(())
    }
}
