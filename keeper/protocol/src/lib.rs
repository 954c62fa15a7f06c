//! What berth's host and keeper say to each other: HTTP/2 with prior knowledge over one byte stream.
//!
//! Documents are JSON, bytes are raw bodies. A session outlives upgrades of the host, so a newer host talks to an older
//! keeper: routes and optional fields are only added, unknown fields are ignored, and a keeper answers 404 to a route
//! that it does not know, with the code `UNKNOWN_ROUTE`. Failures are `{"error": {"code", "message"}}` ([`Failure`]) with a fitting HTTP status.
//!
//! | route | asks | answers |
//! | --- | --- | --- |
//! | `GET /v1/hello` | | [`Hello`] |
//! | `POST /v1/program` | [`StartProgram`] | [`Status`]; idempotent by `run_id` |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/changes` | | a [`Status`] a line: now, then at each change, until the stream is dropped |
//! | `GET /v1/output?from=N&pace_ms=M` | | raw bytes from offset N; header [`OFFSET_HEADER`] is the first byte's offset |
//! | `POST /v1/input` | raw bytes | `{}` once the terminal has taken them all |
//! | `POST /v1/resize` | [`Size`] | `{}` |
//! | `POST /v1/signal` | [`Signal`] | `{}`: sent to the terminal's foreground group |
//! | `POST /v1/stop` | [`Stop`] | [`Status`] once the whole process tree has ended; the keeper stays |
//! | `POST /v1/release` | [`Release`] | `{}`; then the keeper ends, with the program's exit code |
//! | `POST /v1/execs` | [`StartExec`] | [`ExecStarted`] |
//! | `POST /v1/execs/ID/io` | raw standard input; its end is the end of input | [`exec frames`](ExecFrame) |
//! | `POST /v1/execs/ID/resize`, `…/signal` | [`Size`], [`Signal`] | `{}` |
//! | `PUT /v1/file?path=P&mode=M&overwrite=B&parents=B&beneath=F` | raw bytes | [`FileStat`]; nothing is left behind when cut off. `mode` is decimal, 420 by default. `parents` makes missing folders; `beneath` refuses a file that, links resolved, is not in folder F |
//! | `GET /v1/file?path=P&offset=N` | | raw bytes; header [`OFFSET_HEADER`] |
//! | `GET /v1/stat?path=P` | | [`FileStat`] |
//! | `POST /v1/follow` | [`Follow`] | [`follow frames`](FollowFrame) until the stream is dropped |
//! | `POST /v1/dial?unix=PATH` or `?tcp=PORT` | raw bytes | raw bytes |
//!
//! Output: a program's bytes are numbered from [`StartProgram::first_offset`]. The keeper keeps the newest of them
//! ([`Hello::ring_bytes`]); `from` older than the oldest kept one starts there, and the header says so. A reader that falls
//! behind what is kept is reset with [`BEHIND`], and asks again. With `pace_ms`, the program waits for this reader when it
//! is more than [`PACE_WINDOW`] behind, for at most so long; then the reader has no say until it has caught up. The stream
//! ends after the last byte once the program has ended.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The protocol that this crate describes.
pub const PROTOCOL: u32 = 1;
/// The header that carries a body's first offset.
pub const OFFSET_HEADER: &str = "berth-offset";
/// How far behind a pacing reader may be before the program waits for it, in bytes.
pub const PACE_WINDOW: u64 = 64 * 1024;
/// The HTTP/2 error code of an output stream whose reader fell behind what is kept.
pub const BEHIND: u32 = 0xb0;
/// How much output is kept unless configured, in bytes.
pub const DEFAULT_RING_BYTES: u64 = 8 * 1024 * 1024;
/// The environment variable that names the keeper's state folder.
pub const STATE_VARIABLE: &str = "BERTH_STATE";
/// The environment variable that every process of a session carries: the session's id.
pub const SESSION_VARIABLE: &str = "BERTH_SESSION";
/// The keeper's socket, in its state folder.
pub const SOCKET_FILE: &str = "keeper.sock";
/// The hook spool, in the keeper's state folder.
pub const HOOK_SPOOL_FILE: &str = "hooks.jsonl";
/// The keeper's note of itself, in its state folder: a [`PidRecord`]. A keeper that lives holds an exclusive `flock` on it.
pub const PID_FILE: &str = "keeper.pid";
/// What a keeper that has ended leaves in its state folder: an [`ExitRecord`].
pub const EXIT_FILE: &str = "exit.json";

/// Who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// [`PROTOCOL`] of the keeper.
    pub protocol: u32,
    /// The keeper's version.
    pub version: String,
    /// The session it was started for.
    pub session: String,
    /// Its process id, as it sees it.
    pub pid: u32,
    /// Differs for each keeper process, so that a host sees that it talks to another one.
    pub boot_id: String,
    /// How much output it keeps.
    pub ring_bytes: u64,
}

/// A terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

/// A program and where it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// Looked up in `PATH` of `env` when it holds no slash; then its arguments.
    pub argv: Vec<String>,
    /// Set over the keeper's own environment.
    pub env: BTreeMap<String, String>,
    /// Working directory; absent: the keeper's.
    pub cwd: Option<String>,
}

/// Start the main program on the keeper's terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartProgram {
    /// Names this run. The same one again changes nothing; another one is refused while a program runs.
    pub run_id: String,
    pub program: Program,
    /// Started before the program, without a terminal, and ended with it.
    pub sidecars: Vec<Program>,
    pub size: Size,
    /// The number of the first byte of output: one past the last byte of the session's earlier runs.
    pub first_offset: u64,
}

/// What the main program is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProgramState {
    /// None was started yet.
    #[default]
    Waiting,
    Running {
        /// Process id of the program, as the keeper sees it.
        pid: u32,
    },
    Exited {
        /// 128 + n when signal n ended it.
        code: i32,
        /// The signal that ended it.
        #[serde(default)]
        signal: Option<i32>,
    },
    /// It could not be started.
    Failed {
        /// Why, as in `command not found: claude`.
        message: String,
    },
}

/// The main program and its terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub run_id: String,
    pub program: ProgramState,
    /// The oldest byte of output that is kept.
    pub first_offset: u64,
    /// One past the newest byte of output. Told at each change of state, not at each byte.
    pub next_offset: u64,
    pub size: Size,
}

/// A signal by its name without `SIG`, as in `INT`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub signal: String,
}

/// End the main program and everything that it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// How long they have after SIGHUP and SIGTERM before SIGKILL.
    pub grace_ms: u64,
}

/// The host has everything that it wants of a program that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Release {
    /// Refused with `CONFLICT` when another run has begun since.
    pub run_id: String,
}

/// Run a program beside the main one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartExec {
    pub program: Program,
    /// Give it a terminal of this size; absent: pipes.
    pub terminal: Option<Size>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStarted {
    pub id: String,
    pub pid: u32,
}

/// The head of each frame that an exec answers: one byte of kind, then four bytes of length, big endian, then so many
/// bytes. With a terminal everything is [`ExecFrame::Stdout`]. The last frame is [`ExecFrame::Exit`], its body four bytes:
/// the exit code, big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExecFrame {
    Stdout = 1,
    Stderr = 2,
    Exit = 3,
}

/// What is at a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileStat {
    pub path: String,
    pub size: u64,
    pub is_dir: bool,
    pub mode: u32,
}

/// Follow files that only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Follow {
    /// Absolute path with `*` and `?` in any component. The hook spool is followed by its path.
    pub glob: String,
    /// Where to go on in files that were read before.
    pub from: Vec<FilePosition>,
}

/// How far a file was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilePosition {
    pub path: String,
    /// Device and inode, so that a file put in another's place is read from its start.
    pub file_id: String,
    pub offset: u64,
}

/// Each follow frame: four bytes of length, big endian, of a JSON document of this type, the document, then `bytes` raw bytes.
/// Bytes are whole lines, but for a line over 1 MiB, which comes in pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowFrame {
    /// Where in which file the bytes stand.
    pub position: FilePosition,
    /// How many bytes follow the document.
    pub bytes: u32,
    /// The file was cut shorter or replaced since: what was read of it before is no more.
    pub restarted: bool,
}

/// Which process a keeper is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidRecord {
    /// As it sees itself.
    pub pid: u32,
    pub boot_id: String,
}

/// What a keeper that has ended leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitRecord {
    pub boot_id: String,
    pub exit_code: i32,
}

/// Why a request failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: FailureBody,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureBody {
    /// `NOT_FOUND`, `INVALID`, `CONFLICT`, `INTERNAL`, `UNKNOWN_ROUTE`.
    pub code: String,
    pub message: String,
}
