//! `berth attach`: the terminal at hand as one client of a session's terminal.

mod keys;
mod modes;
mod terminal;

use super::client::{ClientError, Server};
use super::output::note;
use anyhow::Context;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use keys::DetachKey;
use modes::Modes;
use reqwest::Url;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;
use terminal::{Size, Terminal};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long to wait before the server is tried again: from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// Lines of history that are shown on joining; on joining again, only the screen is painted anew.
const HISTORY: &str = "1000";

/// How much is kept of what is typed before the connection stands.
const TYPE_AHEAD: usize = 64 * 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Join a session's terminal
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-\\ leaves the session running and gives the terminal back; --detach-key chooses another key.
When the session's program ends, its exit code becomes that of `berth attach`."
)]
pub(super) struct Attach {
    /// Name or id
    session: String,
    #[command(flatten)]
    options: Options,
}

/// How to join.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Options {
    /// The key that leaves: ctrl-a to ctrl-z, ctrl-\, ctrl-], ctrl-^, ctrl-_, or none
    #[arg(long, value_name = "KEY", default_value_t)]
    detach_key: DetachKey,
    /// Only look on
    #[arg(long)]
    read_only: bool,
}

pub(super) async fn run(server: &Server, arguments: Attach) -> anyhow::Result<ExitCode> {
    attach(server, &arguments.session, &arguments.options).await
}

/// Joins until the user leaves, the program ends, or the session is gone.
pub(super) async fn attach(
    server: &Server,
    session: &str,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    // Asked first, so that what is wrong is said in words and not on a socket.
    let about = server.get(&["api", "sessions", session], &[]).await?;
    let id = about["id"].as_str().unwrap_or(session);
    let name = about["name"].as_str().unwrap_or(session);
    let mut terminal = Terminal::open()?;
    let mut resized = signal(SignalKind::window_change()).context("cannot watch the terminal")?;
    if let Some(words) = options.detach_key.words() {
        note(&format!("attached to {name}; {words} leaves it running"));
    }
    let mut client = Client {
        server,
        id,
        options,
        modes: Modes::default(),
    };
    let end = {
        let raw = terminal.raw()?;
        // The session's screen is painted over this one: what stands on it goes where it can be scrolled back to.
        terminal.write("\r\n".repeat(terminal.size().rows.into()).as_bytes())?;
        let end = client.run(&mut terminal, &mut resized).await;
        let leave = client.modes.leave();
        let written = terminal.write(leave.as_bytes());
        drop(raw);
        written.context("cannot write to the terminal")?;
        end?
    };
    match end {
        End::Detached => {
            note(&format!("left {name} running"));
            Ok(ExitCode::SUCCESS)
        }
        End::Exited(code) => {
            note(&format!("{name} ended with exit code {code}"));
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
        }
        End::Gone(reason) => {
            note(&format!("berth: {name}: {reason}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How it ended.
enum End {
    Detached,
    Exited(i64),
    Gone(String),
}

/// How one connection ended.
enum Lost {
    ForGood(End),
    ForNow,
}

struct Client<'a> {
    server: &'a Server,
    id: &'a str,
    options: &'a Options,
    modes: Modes,
}

impl Client<'_> {
    async fn run(&mut self, terminal: &mut Terminal, resized: &mut Signal) -> anyhow::Result<End> {
        let mut history = HISTORY;
        let mut wait = RETRY_FIRST;
        let mut told = false;
        // Typed before the first connection stands, and not to be lost; what is typed blindly later is not sent.
        let mut ahead = Some(Vec::new());
        loop {
            let url = self.url(terminal.size(), history);
            let connected = tokio::select! {
                connected = tokio_tungstenite::connect_async(url.as_str()) => connected,
                end = self.only_detach(terminal, &mut ahead) => return end,
            };
            if let Ok((socket, _)) = connected {
                if told {
                    terminal.write(b"\r\n[berth: connected again]\r\n")?;
                    told = false;
                }
                wait = RETRY_FIRST;
                history = "0";
                let ahead = ahead.take().unwrap_or_default();
                match self.serve(socket, ahead, terminal, resized).await? {
                    Lost::ForGood(end) => return Ok(end),
                    Lost::ForNow => {}
                }
            }
            if !told {
                terminal.write(b"\r\n[berth: connection lost; trying again]\r\n")?;
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                end = self.only_detach(terminal, &mut ahead) => return end,
            }
            wait = (wait * 2).min(RETRY_LAST);
        }
    }

    fn url(&self, size: Size, history: &str) -> Url {
        let mut url = self.server.socket_url(&["ws", "console", self.id]);
        url.query_pairs_mut()
            .append_pair("control", "1")
            .append_pair("cols", &size.cols.to_string())
            .append_pair("rows", &size.rows.to_string())
            .append_pair("scrollback", history);
        if self.options.read_only {
            url.query_pairs_mut().append_pair("mode", "read");
        }
        url
    }

    /// While there is no connection, only the detach key is heeded; the rest is put aside or
    /// passed over.
    async fn only_detach(
        &self,
        terminal: &mut Terminal,
        aside: &mut Option<Vec<u8>>,
    ) -> anyhow::Result<End> {
        loop {
            let Some(typed) = terminal.read().await? else {
                return Ok(End::Detached);
            };
            if self.options.detach_key.find(&typed).is_some() {
                return Ok(End::Detached);
            }
            if let Some(aside) = aside.as_mut().filter(|aside| aside.len() < TYPE_AHEAD) {
                aside.extend_from_slice(&typed);
            }
        }
    }

    /// Serves one connection until it is lost.
    async fn serve(
        &mut self,
        mut socket: Socket,
        ahead: Vec<u8>,
        terminal: &mut Terminal,
        resized: &mut Signal,
    ) -> anyhow::Result<Lost> {
        let mut replaying = true;
        if !ahead.is_empty()
            && !self.options.read_only
            && socket.send(Message::Binary(ahead.into())).await.is_err()
        {
            return Ok(Lost::ForNow);
        }
        loop {
            tokio::select! {
                typed = terminal.read() => {
                    let Some(typed) = typed? else {
                        return Ok(Lost::ForGood(End::Detached));
                    };
                    let detach = self.options.detach_key.find(&typed);
                    let input = &typed[..detach.unwrap_or(typed.len())];
                    let sent = if input.is_empty() || self.options.read_only {
                        Ok(())
                    } else {
                        socket.send(Message::Binary(Bytes::copy_from_slice(input))).await
                    };
                    if detach.is_some() {
                        // A server that is gone cannot be left politely.
                        let _ = socket.close(None).await;
                        return Ok(Lost::ForGood(End::Detached));
                    }
                    if sent.is_err() {
                        return Ok(Lost::ForNow);
                    }
                }
                _ = resized.recv() => {
                    let size = terminal.size();
                    let message = json!({"type": "resize", "cols": size.cols, "rows": size.rows});
                    if !self.options.read_only
                        && socket.send(Message::text(message.to_string())).await.is_err()
                    {
                        return Ok(Lost::ForNow);
                    }
                }
                received = socket.next() => match received {
                    Some(Ok(Message::Binary(bytes))) => {
                        self.modes.see(&bytes);
                        if replaying {
                            terminal.write(&without_erase(&bytes))?;
                        } else {
                            terminal.write(&bytes)?;
                        }
                    }
                    Some(Ok(Message::Text(text))) => {
                        replaying &= !text.contains("replay_end");
                        if let Some(end) = control(&text) {
                            let _ = socket.close(None).await;
                            return Ok(Lost::ForGood(end));
                        }
                    }
                    Some(Ok(Message::Close(frame))) => return Ok(closed(frame)),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Ok(Lost::ForNow),
                }
            }
        }
    }
}

/// The painting of a terminal begins by erasing its scroll-back; here that is the user's own, from before.
fn without_erase(bytes: &[u8]) -> Vec<u8> {
    const ERASE_SCROLL_BACK: &[u8] = b"\x1b[3J";
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest
        .windows(ERASE_SCROLL_BACK.len())
        .position(|window| window == ERASE_SCROLL_BACK)
    {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at + ERASE_SCROLL_BACK.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

/// What a control message ends.
fn control(text: &str) -> Option<End> {
    let message: Value = serde_json::from_str(text).ok()?;
    match message["type"].as_str()? {
        "exit" => Some(End::Exited(message["code"].as_i64().unwrap_or_default())),
        "error" => Some(End::Gone(
            message["message"].as_str().unwrap_or("refused").to_owned(),
        )),
        _ => None,
    }
}

/// A session that is gone is not tried again; a server that stops or cannot keep up is.
fn closed(frame: Option<CloseFrame>) -> Lost {
    const SESSION_GONE: u16 = 4404;
    const NORMAL: u16 = 1000;
    match frame {
        Some(frame) if [SESSION_GONE, NORMAL].contains(&u16::from(frame.code)) => {
            let reason = if frame.reason.is_empty() {
                "the session is gone".to_owned()
            } else {
                frame.reason.to_string()
            };
            Lost::ForGood(End::Gone(reason))
        }
        _ => Lost::ForNow,
    }
}

/// Whether an error means that no server answers.
pub(super) fn is_unreachable(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ClientError>(),
        Some(ClientError::Unreachable { .. })
    )
}
