//! The shapes of events, as CONTRACT section 4 has them.

use crate::session::{Activity, Health, Role, SessionId, Status};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A durable event. Cheap to share: it is made once and held behind an `Arc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub session_id: SessionId,
    /// Rises by one per session, from 1.
    pub seq: u64,
    pub kind: EventKind,
    /// The event as it stands on the wire: one JSON object, rendered once.
    pub json: Bytes,
}

impl Event {
    /// The session's last event: nothing follows it.
    pub fn is_last(&self) -> bool {
        self.kind == EventKind::SessionDeleted
    }

    /// The event's JSON as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.json).unwrap_or_default()
    }
}

/// What happened, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub body: EventBody,
    /// The agent's own id of what happened: within a session the same key is stored once, however often it comes.
    pub source_key: Option<String>,
}

impl From<EventBody> for NewEvent {
    fn from(body: EventBody) -> Self {
        Self {
            body,
            source_key: None,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    SessionStatus {
        status: Status,
        activity: Activity,
        health: Health,
        /// Why, or how far work has come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    ChatMessage {
        message: ChatMessage,
    },
    ToolCall {
        tool: ToolCall,
    },
    ToolResult {
        tool: ToolResult,
    },
    ApprovalRequested {
        approval: ApprovalRequest,
    },
    ApprovalResolved {
        approval: ApprovalResolution,
    },
    SessionDeleted,
}

/// The type of an event, as it stands in its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    SessionStatus,
    ChatMessage,
    ToolCall,
    ToolResult,
    ApprovalRequested,
    ApprovalResolved,
    SessionDeleted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    #[schema(value_type = Object)]
    pub input: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolResult {
    pub id: String,
    pub name: String,
    pub output: String,
    pub is_error: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRequest {
    pub id: String,
    pub tool: ToolCall,
    pub options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalResolution {
    pub id: String,
    pub decision: String,
    pub by: String,
}

impl EventBody {
    pub fn kind(&self) -> EventKind {
        match self {
            Self::SessionStatus { .. } => EventKind::SessionStatus,
            Self::ChatMessage { .. } => EventKind::ChatMessage,
            Self::ToolCall { .. } => EventKind::ToolCall,
            Self::ToolResult { .. } => EventKind::ToolResult,
            Self::ApprovalRequested { .. } => EventKind::ApprovalRequested,
            Self::ApprovalResolved { .. } => EventKind::ApprovalResolved,
            Self::SessionDeleted => EventKind::SessionDeleted,
        }
    }
}

impl EventKind {
    const ALL: [Self; 7] = [
        Self::SessionStatus,
        Self::ChatMessage,
        Self::ToolCall,
        Self::ToolResult,
        Self::ApprovalRequested,
        Self::ApprovalResolved,
        Self::SessionDeleted,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionStatus => "session_status",
            Self::ChatMessage => "chat_message",
            Self::ToolCall => "tool_call",
            Self::ToolResult => "tool_result",
            Self::ApprovalRequested => "approval_requested",
            Self::ApprovalResolved => "approval_resolved",
            Self::SessionDeleted => "session_deleted",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
