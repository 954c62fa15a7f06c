//! Events as they are rendered: once each, for every subscriber and for the database.

use super::{
    ApprovalRequest, ApprovalResolution, ChatMessage, Event, EventBody, ToolCall, ToolResult,
};
use crate::session::{Activity, Health, SessionId, Status};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

/// Makes the event and its JSON.
pub(super) fn render(session_id: SessionId, seq: u64, at: Timestamp, body: &EventBody) -> Event {
    let kind = body.kind();
    let wire = Wire {
        kind: kind.as_str(),
        session_id,
        seq,
        at,
        body: wire(body),
    };
    // Strings and JSON values always serialize; an empty body would show in every test.
    let json = Bytes::from(serde_json::to_vec(&wire).unwrap_or_default());
    Event {
        session_id,
        seq,
        kind,
        json,
    }
}

/// An event with its head: what is rendered.
#[derive(Debug, Serialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    session_id: SessionId,
    seq: u64,
    at: Timestamp,
    #[serde(flatten)]
    body: WireBody<'a>,
}

/// The fields of each type, beside the head.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum WireBody<'a> {
    Status {
        status: Status,
        activity: Activity,
        health: Health,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
    },
    Message {
        message: &'a ChatMessage,
    },
    Call {
        tool: &'a ToolCall,
    },
    Result {
        tool: &'a ToolResult,
    },
    Request {
        approval: &'a ApprovalRequest,
    },
    Resolution {
        approval: &'a ApprovalResolution,
    },
    Nothing {},
}

fn wire(body: &EventBody) -> WireBody<'_> {
    match body {
        EventBody::SessionStatus {
            status,
            activity,
            health,
            message,
        } => WireBody::Status {
            status: *status,
            activity: *activity,
            health: *health,
            message: message.as_deref(),
        },
        EventBody::ChatMessage { message } => WireBody::Message { message },
        EventBody::ToolCall { tool } => WireBody::Call { tool },
        EventBody::ToolResult { tool } => WireBody::Result { tool },
        EventBody::ApprovalRequested { approval } => WireBody::Request { approval },
        EventBody::ApprovalResolved { approval } => WireBody::Resolution { approval },
        EventBody::SessionDeleted => WireBody::Nothing {},
    }
}
