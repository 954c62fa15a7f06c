//! `berth events`.

use super::client::{ClientError, Server};
use super::output::{line, note, plain};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// How many events a page has.
const PAGE: &str = "1000";
/// How long to wait before the server is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Show what happened in a session, or in all
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  berth events fix-login          what happened so far
  berth events fix-login -f       and what happens from now on
  berth events -f --json          of all sessions, a JSON object a line")]
pub(super) struct Events {
    /// Name or id; without it, all sessions (only with --follow)
    #[arg(required_unless_present = "follow")]
    session: Option<String>,
    /// Go on as things happen
    #[arg(long, short)]
    follow: bool,
    /// Begin after the event with this number
    #[arg(long, value_name = "SEQ", requires = "session")]
    after: Option<u64>,
    /// Print each event as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn events(server: &Server, arguments: Events) -> anyhow::Result<ExitCode> {
    let mut seen = BTreeMap::new();
    if let Some(session) = &arguments.session {
        let after = page_through(server, session, &arguments).await?;
        if arguments.follow {
            let about = server.get(&["api", "sessions", session], &[]).await?;
            let id = about["id"].as_str().unwrap_or_default().to_owned();
            seen.insert(id, after);
        }
    }
    if !arguments.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        match follow(server, &arguments, &mut seen).await? {
            Ended::ForGood => return Ok(ExitCode::SUCCESS),
            Ended::ForNow => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Shows what was stored so far; gives the last one's number.
async fn page_through(server: &Server, session: &str, arguments: &Events) -> anyhow::Result<u64> {
    let mut after = arguments.after.unwrap_or_default();
    loop {
        let from = after.to_string();
        let path = ["api", "sessions", session, "events"];
        let page = server
            .get(&path, &[("after", &from), ("limit", PAGE)])
            .await?;
        for event in page["events"].as_array().into_iter().flatten() {
            show(event, arguments)?;
            after = event["seq"].as_u64().unwrap_or(after);
        }
        match page["next_after"].as_u64() {
            Some(next) => after = next,
            None => return Ok(after),
        }
    }
}

enum Ended {
    /// The one session is deleted.
    ForGood,
    /// The connection was lost.
    ForNow,
}

/// Shows events as they come, until the connection ends.
async fn follow(
    server: &Server,
    arguments: &Events,
    seen: &mut BTreeMap<String, u64>,
) -> anyhow::Result<Ended> {
    let url = server.socket_url(&["ws", "events"]);
    let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url.as_str()).await else {
        return Ok(Ended::ForNow);
    };
    let subscribe = match seen.iter().next() {
        Some((id, after)) if arguments.session.is_some() => {
            json!({"type": "subscribe", "session_id": id, "after": after})
        }
        _ => json!({"type": "subscribe", "session_id": "*", "after": seen}),
    };
    if socket
        .send(Message::text(subscribe.to_string()))
        .await
        .is_err()
    {
        return Ok(Ended::ForNow);
    }
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else {
            continue;
        };
        let Ok(event) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "error" {
            let words = event["message"].as_str().unwrap_or_default();
            if arguments.session.is_some() {
                return Err(ClientError::Refused {
                    status: reqwest::StatusCode::BAD_REQUEST,
                    code: event["code"].as_str().unwrap_or_default().to_owned(),
                    message: words.to_owned(),
                }
                .into());
            }
            // A session that was deleted while the connection was lost.
            if let Some(id) = event["session_id"].as_str() {
                seen.remove(id);
            }
            note(&format!("berth: {words}"));
            continue;
        }
        let (Some(id), Some(seq)) = (event["session_id"].as_str(), event["seq"].as_u64()) else {
            continue;
        };
        if kind == "subscribed" {
            continue;
        }
        seen.insert(id.to_owned(), seq);
        show(&event, arguments)?;
        if kind == "session_deleted" {
            seen.remove(id);
            if arguments.session.is_some() {
                return Ok(Ended::ForGood);
            }
        }
    }
    Ok(Ended::ForNow)
}

fn show(event: &Value, arguments: &Events) -> std::io::Result<()> {
    if arguments.json {
        line(&event.to_string())
    } else {
        line(&in_words(event, arguments.session.is_none()))
    }
}

/// An event on one line.
fn in_words(event: &Value, with_session: bool) -> String {
    let text = |value: &Value| plain(value.as_str().unwrap_or_default());
    let at = text(&event["at"]);
    let at = at.get(11..19).unwrap_or(&at).to_owned();
    let session = if with_session {
        format!(" {}", text(&event["session_id"]))
    } else {
        String::new()
    };
    let what = match event["type"].as_str().unwrap_or_default() {
        "session_status" => {
            let mut words = text(&event["status"]);
            let activity = text(&event["activity"]);
            if !activity.is_empty() && activity != "unknown" {
                words = format!("{words}, {}", activity.replace('_', " "));
            }
            match event["message"].as_str() {
                Some(message) => format!("{words}: {}", plain(message)),
                None => words,
            }
        }
        "chat_message" => {
            let message = &event["message"];
            format!("{}: {}", text(&message["role"]), text(&message["content"]))
        }
        "tool_call" => {
            let tool = &event["tool"];
            format!(
                "{} {}",
                text(&tool["name"]),
                plain(&tool["input"].to_string())
            )
        }
        "tool_result" => {
            let tool = &event["tool"];
            let word = if tool["is_error"] == true {
                "failed"
            } else {
                "answered"
            };
            format!("{} {word}: {}", text(&tool["name"]), text(&tool["output"]))
        }
        "session_deleted" => "deleted".to_owned(),
        other => format!("{other} {}", plain(&event.to_string())),
    };
    format!("{at}{session} #{} {what}", event["seq"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_into_words() {
        let check = |event: Value, words: &str| assert_eq!(in_words(&event, false), words);
        let at = "2026-01-02T03:04:05.678Z";
        check(
            json!({"type": "session_status", "session_id": "a", "seq": 1, "at": at, "status": "running", "activity": "working", "health": "Healthy"}),
            "03:04:05 #1 running, working",
        );
        check(
            json!({"type": "chat_message", "session_id": "a", "seq": 2, "at": at, "message": {"role": "user", "content": "a\u{1b}[31mb\nc"}}),
            "03:04:05 #2 user: a [31mb c",
        );
        check(
            json!({"type": "tool_result", "session_id": "a", "seq": 3, "at": at, "tool": {"id": "1", "name": "Bash", "output": "x", "is_error": true}}),
            "03:04:05 #3 Bash failed: x",
        );
    }
}
