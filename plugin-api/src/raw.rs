//! The frozen binary form: the only types that cross between two separately compiled libraries.
//!
//! What evolves is not here but in [`doc`](crate::doc), as JSON. Methods are appended, with a default body that answers
//! `UNSUPPORTED`; a struct passed by value never changes; codes are numbers with constants. Nothing outside this crate
//! and the host's loader names these types, so that one file says what a plugin of any age can rely on.
#![expect(
    unsafe_code,
    reason = "the traits' vtables are unsafe by nature; abi_stable's macros write them"
)]
#![allow(
    non_local_definitions,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::mem_forget,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::allow_attributes,
    reason = "what abi_stable's macros write is not ours to improve; which of these it sets off changes with the compiler"
)]

use crate::{Code, Detail, Error};
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RBox, RErr, RResult, RSlice, RSliceMut, RStr, RString, RVec};
use abi_stable::{StableAbi, declare_root_module_statics, sabi_trait};
use async_ffi::{FfiContext, FfiFuture, FfiPoll, FutureExt};

/// The number of this binary form, in `.berth.abi`. Equal or refused.
pub const ABI: u16 = 1;

/// A document: JSON in UTF-8.
pub type Doc = RVec<u8>;

/// What an operation comes to.
pub type Answer = FfiFuture<RResult<Doc, Fault>>;

/// What an operation that opens a stream comes to.
pub type StreamAnswer = FfiFuture<RResult<RawStreamObject, Fault>>;

/// The host, as a plugin holds it.
pub type RawHostObject = RawHost_TO<RBox<()>>;
/// A byte stream, as the host holds it.
pub type RawStreamObject = RawStream_TO<RBox<()>>;
/// An opened backend, as the host holds it.
pub type RawBackendObject = RawBackend_TO<RBox<()>>;
/// An opened agent, as the host holds it.
pub type RawAgentObject = RawAgent_TO<RBox<()>>;
/// A decoder, as the host holds it.
pub type RawDecoderObject = RawDecoder_TO<RBox<()>>;

/// What comes with each call.
#[repr(C)]
#[derive(Debug, Clone, Copy, StableAbi)]
pub struct CallCx {
    /// The id under which host and plugin log it.
    pub request_id: [u8; 16],
    /// How long the host waits, in milliseconds; 0 is for ever.
    pub time_limit_ms: u64,
    /// A trace context, once one is passed on.
    pub trace: [u8; 32],
    /// Room, zero.
    pub reserved: [u64; 4],
}

impl CallCx {
    /// A call with this id and time limit.
    pub fn new(request_id: [u8; 16], time_limit_ms: u64) -> Self {
        Self {
            request_id,
            time_limit_ms,
            trace: [0; 32],
            reserved: [0; 4],
        }
    }
}

/// A failed operation.
#[repr(C)]
#[derive(Debug, Clone, StableAbi)]
pub struct Fault {
    /// [`Code::number`].
    pub code: u32,
    /// [`Fault::RETRYABLE`], [`Fault::MAY_HAVE_HAPPENED`].
    pub flags: u32,
    /// What happened.
    pub message: RString,
    /// [`Detail`] as JSON; may be empty.
    pub detail: RVec<u8>,
}

impl Fault {
    /// The same request may succeed later.
    pub const RETRYABLE: u32 = 1;
    /// The work may have been done all the same.
    pub const MAY_HAVE_HAPPENED: u32 = 1 << 1;
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let mut flags = 0;
        if error.retryable {
            flags |= Self::RETRYABLE;
        }
        if error.may_have_happened {
            flags |= Self::MAY_HAVE_HAPPENED;
        }
        let detail = if error.detail == Detail::default() {
            Vec::new()
        } else {
            serde_json::to_vec(&error.detail).unwrap_or_default()
        };
        Self {
            code: error.code.number(),
            flags,
            message: error.message.into(),
            detail: detail.into(),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self {
            code: Code::from_number(fault.code),
            message: fault.message.into_string(),
            retryable: fault.flags & Fault::RETRYABLE != 0,
            may_have_happened: fault.flags & Fault::MAY_HAVE_HAPPENED != 0,
            detail: serde_json::from_slice(&fault.detail).unwrap_or_default(),
        }
    }
}

fn unsupported(operation: &str) -> Fault {
    Error::unsupported(operation).into()
}

/// What the host does for a plugin. May be called on any thread; never blocks.
#[sabi_trait]
pub trait RawHost: Send + Sync + 'static {
    /// Whether the host wants to hear messages of this level (1 error to 5 trace).
    fn enabled(&self, level: u32) -> bool;

    /// Takes a message for the log; `fields` is a JSON object or empty.
    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>);

    /// Takes word on how a call goes: a `Progress` document.
    fn notify(&self, request_id: &[u8; 16], progress: Doc);

    /// Answers a question by name; empty when the host does not know it.
    #[sabi(last_prefix_field)]
    fn query(&self, name: RStr<'_>) -> Doc;
}

/// A byte stream in both directions. Pulled: the host's buffer is filled, nothing is queued. Dropping it closes it.
#[sabi_trait]
pub trait RawStream: Send + 'static {
    /// Fills a part of `buffer`; 0 is the end.
    fn poll_read(
        &mut self,
        cx: &mut FfiContext<'_>,
        buffer: RSliceMut<'_, u8>,
    ) -> FfiPoll<RResult<usize, Fault>>;

    /// Takes a part of `bytes`.
    fn poll_write(
        &mut self,
        cx: &mut FfiContext<'_>,
        bytes: RSlice<'_, u8>,
    ) -> FfiPoll<RResult<usize, Fault>>;

    /// Sees what was written on its way.
    fn poll_flush(&mut self, cx: &mut FfiContext<'_>) -> FfiPoll<RResult<(), Fault>>;

    /// Ends writing; reading goes on.
    #[sabi(last_prefix_field)]
    fn poll_shutdown(&mut self, cx: &mut FfiContext<'_>) -> FfiPoll<RResult<(), Fault>>;
}

/// An opened backend: a method per operation, a document per argument.
#[sabi_trait]
pub trait RawBackend: Send + Sync + 'static {
    /// `null` → `Probe`
    fn probe(&self, cx: CallCx, request: Doc) -> Answer;
    /// `CreateRequest` → `Place`
    fn create(&self, cx: CallCx, request: Doc) -> Answer;
    /// `PlaceRequest` → `null`
    fn start(&self, cx: CallCx, request: Doc) -> Answer;
    /// `StopRequest` → `null`
    fn stop(&self, cx: CallCx, request: Doc) -> Answer;
    /// `DeleteRequest` → `Deleted`
    fn delete(&self, cx: CallCx, request: Doc) -> Answer;
    /// `PlaceRequest` → `Inspection`
    fn inspect(&self, cx: CallCx, request: Doc) -> Answer;
    /// `ListRequest` → `Places`
    fn list(&self, cx: CallCx, request: Doc) -> Answer;
    /// `RefreshRequest` → `Refreshed`
    fn refresh(&self, cx: CallCx, request: Doc) -> Answer;
    /// `PlaceRequest` → the keeper's bytes
    fn connect(&self, cx: CallCx, request: Doc) -> StreamAnswer;
    /// `WatchRequest` → lines of JSON, each a `WatchLine`
    fn watch(&self, cx: CallCx, request: Doc) -> StreamAnswer;
    /// `null` → `null`
    #[sabi(last_prefix_field)]
    fn shutdown(&self, cx: CallCx, request: Doc) -> Answer;
    // Later operations are appended here, each with a body that answers `absent(..)`.
}

/// An opened agent. Its operations only compute; the host calls them where they may take their time.
#[sabi_trait]
pub trait RawAgent: Send + Sync + 'static {
    /// `LaunchRequest` → `LaunchPlan`
    fn launch(&self, request: Doc) -> RResult<Doc, Fault>;
    /// `DeliverRequest` → `Delivery`
    fn deliver(&self, request: Doc) -> RResult<Doc, Fault>;
    /// `DecoderRequest` → a decoder
    #[sabi(last_prefix_field)]
    fn decoder(&self, request: Doc) -> RResult<RawDecoderObject, Fault>;
    // Later operations are appended here.
}

/// Folds records into events.
#[sabi_trait]
pub trait RawDecoder: Send + 'static {
    /// Bytes of source number `source` → an array of `AgentEvent`
    fn feed(&mut self, source: u32, input: RSlice<'_, u8>) -> RResult<Doc, Fault>;
    /// → any JSON
    #[sabi(last_prefix_field)]
    fn state(&self) -> RResult<Doc, Fault>;
    // Later operations are appended here.
}

/// What a library exports, under the symbol that its manifest names.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ModuleRef)))]
pub struct Module {
    /// The manifest, as in the section `.berth.manifest`.
    pub manifest: extern "C" fn() -> RStr<'static>,
    /// → `BackendDescription` or `AgentDescription`
    pub describe: extern "C" fn() -> RResult<Doc, Fault>,
    /// `OpenRequest` → a backend; an agent's library answers `UNSUPPORTED`.
    pub open_backend:
        extern "C" fn(RawHostObject, Doc) -> FfiFuture<RResult<RawBackendObject, Fault>>,
    /// `OpenRequest` → an agent; a backend's library answers `UNSUPPORTED`.
    #[sabi(last_prefix_field)]
    pub open_agent: extern "C" fn(RawHostObject, Doc) -> RResult<RawAgentObject, Fault>,
}

impl RootModule for ModuleRef {
    declare_root_module_statics! {ModuleRef}
    const BASE_NAME: &'static str = "berth_plugin";
    const NAME: &'static str = "berth_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// What a library answers to an operation that it does not have.
pub(crate) fn absent<T: Send + 'static>(operation: &'static str) -> FfiFuture<RResult<T, Fault>> {
    async move { RErr(unsupported(operation)) }.into_ffi()
}

/// What a library answers to an operation that it does not have.
pub(crate) fn absent_now<T>(operation: &'static str) -> RResult<T, Fault> {
    RErr(unsupported(operation))
}

/// Why a library's module cannot be used.
#[cfg(feature = "host")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleError {
    /// It was made with another major version of the API, or its version cannot be read.
    Version {
        /// The library's version of the API.
        plugin: String,
        /// The host's version of the API.
        host: String,
    },
    /// Its types are not laid out as the host's are.
    Layout {
        /// The first difference.
        first: String,
        /// All differences.
        all: String,
    },
    /// Its module could not be made.
    Broken(String),
}

/// Checks that the library with this header has the layout that the host knows, and makes its module.
///
/// The check of `abi_stable` is one-way: it takes a library that knows more than the host, and refuses one that knows
/// less. So the older side is always taken for the interface.
///
/// # Errors
/// The library does not fit.
#[cfg(feature = "host")]
pub fn module_of(
    header: &'static abi_stable::library::LibHeader,
) -> Result<ModuleRef, ModuleError> {
    use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
    use abi_stable::sabi_types::VersionNumber;

    let ours = ModuleRef::VERSION_STRINGS;
    let version_error = || ModuleError::Version {
        plugin: header.version_strings().version.to_string(),
        host: ours.version.to_string(),
    };
    let host = VersionNumber::new(ours).map_err(|_| version_error())?;
    let plugin = VersionNumber::new(header.version_strings()).map_err(|_| version_error())?;
    if host.major != plugin.major {
        return Err(version_error());
    }
    let theirs = header
        .layout()
        .ok_or_else(|| ModuleError::Broken("it carries no layout".to_owned()))?;
    let layout = <ModuleRef as StableAbi>::LAYOUT;
    let checked = if plugin.minor < host.minor {
        check_layout_compatibility(theirs, layout)
    } else {
        check_layout_compatibility(layout, theirs)
    };
    checked.map_err(|errors| {
        let all = errors.to_string();
        ModuleError::Layout {
            first: first_difference(&all),
            all,
        }
    })?;
    // SAFETY: the layout was checked just now, with the older side as the interface.
    unsafe { header.init_root_module_with_unchecked_layout::<ModuleRef>() }
        .map_err(|error| ModuleError::Broken(error.to_string()))
}

/// The first `Error:` block of the checker's long report, on one line.
#[cfg(feature = "host")]
fn first_difference(report: &str) -> String {
    let start = report.find("Error:").unwrap_or(0);
    let block = report[start..].split("\n\n").next().unwrap_or_default();
    let line = block.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}
