//! Documents of agent plugins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What an agent can do, told once, before it is opened.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentDescription {
    /// What it can do.
    pub capabilities: AgentCapabilities,
    /// The JSON Schema of its section of the configuration.
    pub config_schema: Option<Value>,
    /// The JSON Schema of `agent_options` of a session.
    pub options_schema: Option<Value>,
}

/// What an agent can do. The host asks these facts, never the agent's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with a name in the document"
)]
pub struct AgentCapabilities {
    /// A session may be made without a prompt.
    pub prompt_optional: bool,
    /// It tells what was said and done as events (chat, tool calls).
    pub events: bool,
    /// It can go on with a conversation after its program was ended.
    pub resume: bool,
    /// It takes a model's name.
    pub model: bool,
    /// It has a plan mode.
    pub plan_mode: bool,
    /// It takes images with a prompt.
    pub images: bool,
    /// Its approvals can be answered over the API.
    pub approvals: bool,
    /// It can be interrupted over the API.
    pub interrupt: bool,
}

/// A program to run in the session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Command {
    /// The program (looked up in the session's `PATH` when it holds no slash) and its arguments.
    pub argv: Vec<String>,
    /// Environment beside what the session has.
    pub env: BTreeMap<String, String>,
}

/// What an agent must know of the session that it is started in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AgentContext {
    /// The session's id.
    pub session_id: String,
    /// The session's name.
    pub session_name: String,
    /// The working directory, as the session sees it.
    pub cwd: String,
    /// The agent's home folder, as the session sees it: private to the session and kept across recreate.
    pub home: String,
    /// The session's user's login shell, where the backend shares the host's files and the host knows it.
    pub login_shell: Option<String>,
    /// The keeper program, as the session sees it: `<keeper> hook NAME` appends its standard input to the hook spool.
    pub keeper: String,
    /// The model asked for.
    pub model: Option<String>,
    /// Plan mode was switched off by the caller.
    pub no_plan_mode: bool,
    /// Images to attach, as paths that the session sees.
    pub images: Vec<String>,
    /// `agent_options` of the session, already checked against the agent's schema.
    pub options: Value,
}

/// Start the agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LaunchRequest {
    /// Where.
    pub context: AgentContext,
    /// The conversation to go on with; absent: a new one.
    pub resume: Option<String>,
    /// What to say first. Empty or absent: start idle.
    pub prompt: Option<String>,
}

/// How to start the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LaunchPlan {
    /// Files to write before the start.
    pub files: Vec<SeedFile>,
    /// The program that gets the session's terminal.
    pub main: Command,
    /// Programs that are started before `main` and ended with it, without a terminal.
    pub sidecars: Vec<Command>,
    /// Bytes to type once the program has started, in order: how a prompt reaches a program that takes none by argument.
    pub typed: Vec<Keystrokes>,
    /// The conversation's id, where the plugin chooses it.
    pub native_id: Option<String>,
    /// What the decoder is fed from.
    pub sources: Vec<EventSource>,
}

/// A file to write in the session before its program starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SeedFile {
    /// Absolute, as the session sees it.
    pub path: String,
    /// What it is to hold.
    pub content: String,
    /// How it meets a file that is there.
    pub merge: Merge,
    /// Its permission bits; absent: 0600.
    pub mode: Option<u32>,
}

/// How a seed file meets a file that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// It takes its place.
    #[default]
    Replace,
    /// It is written only where there is none.
    IfAbsent,
    /// Objects are merged, deeply; the seed's values win.
    Json,
    /// Tables are merged, deeply; the seed's values win.
    Toml,
}

/// Bytes for the terminal, written at once, and how long to wait before what comes next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Keystrokes {
    /// Text to write to the terminal, control characters included.
    pub text: String,
    /// Pause after it.
    pub then_wait_ms: u64,
}

/// Where an agent's events come from. Its place in [`LaunchPlan::sources`] is the number that the decoder is fed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventSource {
    /// Files that only grow, found by a glob; each file's whole lines are fed.
    Follow {
        /// Absolute glob, as the session sees it.
        glob: String,
    },
    /// What `<keeper> hook NAME` was given, a line each: `{"hook": NAME, "at": time, "input": …}`.
    Hooks,
}

/// Say something to the agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeliverRequest {
    /// Where.
    pub context: AgentContext,
    /// What to say.
    pub content: String,
}

/// How to say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Delivery {
    /// Bytes to type, in order.
    pub typed: Vec<Keystrokes>,
}

/// Make a decoder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DecoderRequest {
    /// Where.
    pub context: AgentContext,
    /// What an earlier decoder of this session gave as its state; null for a new one.
    pub state: Value,
}

/// What the agent inside is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// The agent does not tell.
    #[default]
    Unknown,
    /// It works on a turn.
    Working,
    /// It asked its user something.
    WaitingInput,
    /// It waits for an approval.
    WaitingApproval,
    /// The turn is done.
    Idle,
}

/// What a decoder makes of the agent's own records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentEvent {
    /// The conversation has this id from now on.
    Native {
        /// The agent's own id.
        id: String,
    },
    /// The agent does something else now.
    Activity {
        /// What.
        activity: Activity,
    },
    /// Something was said.
    Message {
        /// The agent's own id of it: the same key never counts twice.
        key: String,
        /// `user`, `assistant` or `system`.
        role: String,
        /// What.
        content: String,
    },
    /// A tool is being used.
    ToolCall {
        /// The agent's own id of the call.
        key: String,
        /// The tool's name.
        name: String,
        /// What it was given.
        input: Value,
    },
    /// A tool has answered.
    ToolResult {
        /// The id of the call.
        key: String,
        /// The tool's name.
        name: String,
        /// What it answered.
        output: String,
        /// It failed.
        is_error: bool,
    },
}
