//! What berth's host and its plugins agree on.
//!
//! A plugin is a dynamic library that implements [`Backend`] (where sessions run) or [`Agent`] (what runs in them) and
//! exports it with [`export_plugin!`]. Authors write plain Rust: async functions, serde documents, `AsyncRead +
//! AsyncWrite`. The macro adds what the boundary needs: panic guards, a Tokio runtime of the plugin's own, the way of
//! its log into the host's, and the frozen binary form that any compiler's host can load.
//!
//! The version of this crate is the version of the API. A minor adds, nothing is ever taken away under one major.

mod agent;
mod backend;
pub mod doc;
mod error;
pub mod manifest;
#[doc(hidden)]
pub mod raw;
mod sdk;
mod stream;

pub use agent::{Agent, Decoder, NoRecords};
pub use backend::{Backend, Cx, WatchSink};
pub use error::{Code, Detail, Error, Result};
pub use stream::Stream;

/// What the host needs, and authors do not.
#[doc(hidden)]
pub use sdk::{WatchLine, linked, private as __private};
