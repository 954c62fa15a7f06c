//! Documents of backend plugins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a backend can do, told once, before it is opened.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BackendDescription {
    /// What it can do.
    pub capabilities: BackendCapabilities,
    /// The JSON Schema of its section of the configuration.
    pub config_schema: Option<Value>,
    /// The JSON Schema of `backend_options` of a session.
    pub options_schema: Option<Value>,
}

/// What a backend can do. The host asks these facts, never the backend's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with a name in the document"
)]
pub struct BackendCapabilities {
    /// How a session's files get to where it runs.
    pub filesystem: Filesystem,
    /// It takes an `image`, and has the operation `refresh`.
    pub refresh: bool,
    /// It heeds `image`.
    pub image: bool,
    /// It heeds `resources`.
    pub resources: bool,
    /// It tells changes by itself through `watch`.
    pub watch: bool,
}

/// How a session's files get to where it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filesystem {
    /// A place sees the host's own files under the host's own paths: each mount's target is its source.
    Host,
    /// A place sees the mounts of [`CreateRequest::mounts`] at their targets.
    #[default]
    Bind,
    /// A place has files of its own; the host copies through the keeper, and sends no mounts.
    Own,
}

/// Which session a place is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SessionRef {
    /// The session's id: the key under which every operation is idempotent.
    pub id: String,
    /// Its name when the request was made, for people; it may change later.
    pub name: String,
    /// The id of the installation of berth that owns it.
    pub instance: String,
}

/// The static program that a place runs as its main process, as PID 1 where there is such a thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeeperProgram {
    /// The program for the place's architecture, on the host's file system. It is static: it runs wherever a kernel does.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment to set for it, beside `BERTH_STATE`: the backend sets that to a folder in the place that exists, is
    /// empty at first, and that only the session's user can enter. The keeper listens on `$BERTH_STATE/keeper.sock`;
    /// where the backend cannot reach that socket, it runs `<keeper> connect` in the place with the same `BERTH_STATE`
    /// and takes that program's standard input and output as the stream.
    pub env: BTreeMap<String, String>,
}

/// A folder or file of the host that a place sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Mount {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where the place sees it.
    pub target: PathBuf,
    /// The place cannot write it.
    pub read_only: bool,
}

/// Whose files the session makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Limits of a place; absent means the backend's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resources {
    /// Processors, as in `1.5`.
    pub cpu: Option<f64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
}

/// Make a place, and start nothing in it. Idempotent by `session.id`: where the place is there already, answer it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CreateRequest {
    /// For whom.
    pub session: SessionRef,
    /// What it runs.
    pub keeper: KeeperProgram,
    /// What it sees of the host's files. Empty where the backend's [`Filesystem`] is `own`.
    pub mounts: Vec<Mount>,
    /// As whom it runs; absent: the backend's default.
    pub user: Option<User>,
    /// The image asked for, where the backend heeds it.
    pub image: Option<String>,
    /// Limits.
    pub resources: Resources,
    /// `backend_options` of the session, already checked against the backend's schema.
    pub options: Value,
    /// Labels to put on everything that is made, where the engine has labels.
    pub labels: BTreeMap<String, String>,
}

/// A place that was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Place {
    /// The backend's own note of what it made, with a version in it. The host stores it, never looks inside, and hands
    /// it back with every later request.
    pub handle: Value,
    /// What the user should know, as in `memory limit not supported, ignored`.
    pub warnings: Vec<String>,
}

/// Names one place: the argument of `start`, `inspect` and `connect`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PlaceRequest {
    /// Whose place.
    pub session: SessionRef,
    /// What `create` answered; null when its answer was lost: then find the place by the session's id.
    pub handle: Value,
}

/// End what runs in a place; the place and its data stay. One that does not run is a success.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StopRequest {
    /// Which place.
    #[serde(flatten)]
    pub place: PlaceRequest,
    /// How long the program has to end by itself before it is killed.
    pub grace_ms: u64,
}

/// Remove a place. One that is absent is a success.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeleteRequest {
    /// Which place.
    #[serde(flatten)]
    pub place: PlaceRequest,
    /// Remove the session's data on the backend too (its volumes), not only what computes.
    pub data: bool,
}

/// What `delete` removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Deleted {
    /// Kinds of things, in the engine's words: `container`, `volumes`, `processes`.
    pub removed: Vec<String>,
}

/// Whether a backend can be used now, and what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Probe {
    /// Sessions can be made now.
    pub available: bool,
    /// Why not, and what to do about it.
    pub reason: Option<String>,
    /// The architecture of its places, as the compiler names it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// The engine and its version, as in `Docker Engine 28.2`.
    pub engine: Option<String>,
    /// Further facts for people.
    pub facts: BTreeMap<String, String>,
}

/// What a place is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    /// It is not there, but the session's data on the backend (if it keeps any there) is.
    #[default]
    Missing,
    /// It is not there, nor is the data that the backend kept for it.
    DataLost,
    /// Made, and never started.
    Created,
    /// On its way: pulling, scheduling.
    Pending,
    /// Its main process runs.
    Running,
    /// Its main process ended.
    Exited,
}

/// What the backend sees of one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Inspection {
    /// What it is doing.
    pub state: PlaceState,
    /// The engine's own word for it (`exited`, `ImagePullBackOff`).
    pub engine_status: Option<String>,
    /// The main process's exit code, 128 + n when signal n ended it.
    pub exit_code: Option<i32>,
    /// It was killed for want of memory.
    pub oom_killed: bool,
    /// What the engine says went wrong.
    pub error_message: Option<String>,
}

/// Which places to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListRequest {
    /// Only places of this installation.
    pub instance: String,
}

/// Every place of an installation, running or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Places {
    /// The places.
    pub places: Vec<ListedPlace>,
}

/// One place, as `list` tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ListedPlace {
    /// Whose it is.
    pub session_id: String,
    /// As `create` would answer it.
    pub handle: Value,
    /// When it was made.
    pub created_at: Option<String>,
    /// What it is doing.
    pub inspection: Inspection,
}

/// What to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WatchRequest {
    /// Only places of this installation.
    pub instance: String,
}

/// A place changed. One for each place that is there comes first, so that nothing is missed between `list` and `watch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WatchEvent {
    /// Whose place.
    pub session_id: String,
    /// What it is doing now.
    pub inspection: Inspection,
}

/// Take the newest image and make the place anew from it; the old place is removed only when the new one runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RefreshRequest {
    /// As for `create`.
    pub create: CreateRequest,
    /// The place that stands.
    pub handle: Value,
}

/// What `refresh` did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Refreshed {
    /// The image had changed and the place was made anew; otherwise nothing was touched.
    pub changed: bool,
    /// The place that stands now.
    pub place: Place,
}
