//! What clients say on `/ws/events`, and how they are told that it was wrong.

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::parse_json;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The `session_id` that means every session.
pub(super) const ALL: &str = "*";

/// What a client says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClientMessage {
    Ping,
    Subscribe(Subscribe),
    /// A session's id or name, or [`ALL`].
    Unsubscribe(String),
    Send(SendMessage),
}

/// What to hear of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Subscribe {
    One {
        session: String,
        after: Option<u64>,
    },
    /// From where in each session; of others, only what follows. What could not be read of the map stands in `problems`.
    All {
        after: BTreeMap<String, u64>,
        problems: Vec<Problem>,
    },
}

/// Something to say to an agent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SendMessage {
    pub(super) session: String,
    pub(super) content: String,
    /// The client's own id of it, given back.
    pub(super) id: Option<Value>,
}

/// An `error` message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    code: ErrorCode,
    message: String,
    session: Option<String>,
    id: Option<Value>,
}

impl Problem {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::InvalidRequest,
            message: message.into(),
            session: None,
            id: None,
        }
    }

    /// As an answer over HTTP would have put it; written to the log.
    pub(super) fn from_error(error: &ApiError) -> Self {
        error.log();
        Self {
            code: error.code(),
            message: error.message().to_owned(),
            session: None,
            id: None,
        }
    }

    /// About this session, as the client named it.
    pub(super) fn about(mut self, session: &str) -> Self {
        self.session = Some(session.to_owned());
        self
    }

    /// In answer to the message with this id.
    pub(super) fn answering(mut self, id: Option<&Value>) -> Self {
        self.id = id.cloned();
        self
    }

    /// The message on the wire.
    pub(super) fn text(&self) -> String {
        let mut fields = json!({
            "type": "error",
            "code": self.code.as_str(),
            "message": self.message,
        });
        if let Some(session) = &self.session {
            fields["session_id"] = json!(session);
        }
        if let Some(id) = &self.id {
            fields["id"] = id.clone();
        }
        fields.to_string()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeFields {
    session_id: String,
    #[serde(default)]
    after: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnsubscribeFields {
    session_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendFields {
    session_id: String,
    content: String,
    #[serde(default)]
    id: Option<Value>,
}

/// Reads one message.
pub(super) fn parse(text: &str) -> Result<ClientMessage, Problem> {
    let mut fields: Map<String, Value> = parse_json(text.as_bytes())
        .map_err(|error| Problem::invalid(error.message().to_owned()))?;
    let session = fields
        .get("session_id")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let about = |problem: Problem| match &session {
        Some(session) => problem.about(session),
        None => problem,
    };
    let kind = match fields.remove("type") {
        Some(Value::String(kind)) => kind,
        Some(_) => return Err(about(Problem::invalid("the field type must be a string"))),
        None => return Err(about(Problem::invalid("the field type is missing"))),
    };
    let message = match kind.as_str() {
        "ping" => return Ok(ClientMessage::Ping),
        "subscribe" => read::<SubscribeFields>(fields).and_then(subscribe),
        "unsubscribe" => read::<UnsubscribeFields>(fields)
            .map(|fields| ClientMessage::Unsubscribe(fields.session_id)),
        "send_message" => {
            let id = fields.get("id").cloned();
            read::<SendFields>(fields)
                .and_then(send)
                .map_err(|problem| problem.answering(id.as_ref()))
        }
        other => Err(Problem::invalid(format!(
            "unknown type {other:?}; known are: subscribe, unsubscribe, send_message, ping"
        ))),
    };
    message.map_err(about)
}

fn read<T: for<'de> Deserialize<'de>>(fields: Map<String, Value>) -> Result<T, Problem> {
    let text = Value::Object(fields).to_string();
    parse_json(text.as_bytes()).map_err(|error| Problem::invalid(error.message().to_owned()))
}

fn subscribe(fields: SubscribeFields) -> Result<ClientMessage, Problem> {
    let session = fields.session_id;
    let subscribe = if session == ALL {
        let given = match fields.after {
            Value::Null => Map::new(),
            Value::Object(given) => given,
            other => {
                return Err(Problem::invalid(format!(
                    "with the session_id \"*\", after is a map from session id to seq, got {other}"
                )));
            }
        };
        let mut after = BTreeMap::new();
        let mut problems = Vec::new();
        for (session, seq) in given {
            match seq_of(&seq) {
                Ok(seq) => {
                    after.insert(session, seq);
                }
                Err(problem) => problems.push(problem.about(&session)),
            }
        }
        Subscribe::All { after, problems }
    } else {
        let after = match fields.after {
            Value::Null => None,
            seq => Some(seq_of(&seq)?),
        };
        Subscribe::One { session, after }
    };
    Ok(ClientMessage::Subscribe(subscribe))
}

fn seq_of(value: &Value) -> Result<u64, Problem> {
    value
        .as_u64()
        .ok_or_else(|| Problem::invalid(format!("after must be the seq of an event, got {value}")))
}

fn send(fields: SendFields) -> Result<ClientMessage, Problem> {
    if !matches!(
        fields.id,
        None | Some(Value::Null | Value::String(_) | Value::Number(_))
    ) {
        return Err(Problem::invalid(
            "the field id must be a string or a number",
        ));
    }
    Ok(ClientMessage::Send(SendMessage {
        session: fields.session_id,
        content: fields.content,
        id: fields.id.filter(|id| !id.is_null()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_contract_are_understood() {
        let one = |session: &str, after| {
            ClientMessage::Subscribe(Subscribe::One {
                session: session.to_owned(),
                after,
            })
        };
        let check = |text: &str, expected: ClientMessage| {
            assert_eq!(parse(text), Ok(expected), "{text}");
        };
        check(r#"{"type":"ping"}"#, ClientMessage::Ping);
        check(r#"{"type":"ping","t":1}"#, ClientMessage::Ping);
        check(r#"{"type":"subscribe","session_id":"a"}"#, one("a", None));
        check(
            r#"{"type":"subscribe","session_id":"a","after":41}"#,
            one("a", Some(41)),
        );
        check(
            r#"{"type":"unsubscribe","session_id":"*"}"#,
            ClientMessage::Unsubscribe("*".to_owned()),
        );
        check(
            r#"{"type":"send_message","session_id":"a","content":"hi","id":"7"}"#,
            ClientMessage::Send(SendMessage {
                session: "a".to_owned(),
                content: "hi".to_owned(),
                id: Some(json!("7")),
            }),
        );
        check(
            r#"{"type":"subscribe","session_id":"*","after":{"a":1,"b":-1}}"#,
            ClientMessage::Subscribe(Subscribe::All {
                after: BTreeMap::from([("a".to_owned(), 1)]),
                problems: vec![
                    Problem::invalid("after must be the seq of an event, got -1").about("b"),
                ],
            }),
        );
    }

    #[test]
    fn wrong_messages_are_answered_with_what_is_wrong() {
        let check = |text: &str, expected: Value| {
            let problem = parse(text).unwrap_err().text();
            let mut expected = expected;
            expected["type"] = json!("error");
            expected["code"] = json!("INVALID_REQUEST");
            let problem: Value = serde_json::from_str(&problem).unwrap();
            assert_eq!(problem, expected, "{text}");
        };
        check(
            "nonsense",
            json!({"message": "malformed JSON: expected ident at line 1 column 2"}),
        );
        check(
            "[]",
            json!({"message": "the body is wrong: a JSON object is expected, got a list"}),
        );
        check("{}", json!({"message": "the field type is missing"}));
        check(
            r#"{"type":"subscibe","session_id":"a"}"#,
            json!({"session_id": "a", "message":
                "unknown type \"subscibe\"; known are: subscribe, unsubscribe, send_message, ping"}),
        );
        check(
            r#"{"type":"subscribe"}"#,
            json!({"message": "the field session_id is missing"}),
        );
        check(
            r#"{"type":"subscribe","session_id":"a","after":"7"}"#,
            json!({"session_id": "a", "message": "after must be the seq of an event, got \"7\""}),
        );
        check(
            r#"{"type":"subscribe","session_id":"a","afetr":7}"#,
            json!({"session_id": "a", "message": "unknown field afetr; known are: session_id, after"}),
        );
        check(
            r#"{"type":"subscribe","session_id":"*","after":7}"#,
            json!({"session_id": "*", "message":
                "with the session_id \"*\", after is a map from session id to seq, got 7"}),
        );
        check(
            r#"{"type":"send_message","session_id":"a","id":3}"#,
            json!({"session_id": "a", "id": 3, "message": "the field content is missing"}),
        );
    }
}
