//! What stands between an author's plugin and the frozen binary form.
//!
//! Three things hold for all of it. The author's asynchronous code runs on the plugin's own runtime, never on the
//! host's threads (but for the polls of a stream). A panic is an answer. Dropping an answer aborts the work.

mod agent;
mod backend;
mod document;
mod export;
mod guard;
mod log;
mod runtime;
mod stream;
mod watch;

pub(crate) use stream::StreamShell;
pub use watch::WatchLine;

/// What [`export_plugin!`](crate::export_plugin) needs, and nobody else.
#[doc(hidden)]
pub mod private {
    pub use super::export::{Exported, agent_entry, backend_entry};
    pub use crate::manifest::{API_VERSION, MIN_HOST_API, RUSTC, TARGET};
    pub use crate::manifest::{AbiTag, Part, join, length_of};
    pub use crate::raw::ModuleRef;
    pub use abi_stable::library::{CheckTypeLayout, LibHeader, RootModuleResult};
}

/// What the host needs to run a plugin that is linked into it, or that it stands in for.
pub mod linked {
    use super::StreamShell;
    use crate::Stream;
    use crate::raw::RawStreamObject;
    use tokio::runtime::Handle;

    pub use super::agent::open as open_agent;
    pub use super::backend::open as open_backend;

    /// A stream in its frozen form; it is polled within `runtime`.
    pub fn stream_object(stream: Stream, runtime: Handle) -> RawStreamObject {
        StreamShell::object(stream, runtime)
    }
}
