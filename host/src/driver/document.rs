//! Documents in and out, as the host sees them.

use berth_plugin_api::raw::Doc;
use berth_plugin_api::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) fn encode<T: Serialize>(request: &T) -> Result<Doc> {
    serde_json::to_vec(request)
        .map(Doc::from)
        .map_err(|error| Error::internal(format!("the request cannot be written: {error}")))
}

/// Reads what a plugin answered to `operation`.
pub(super) fn decode<T: DeserializeOwned>(operation: &str, answer: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(answer);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        Error::internal(format!(
            "the plugin's answer to {operation} cannot be read at {}: {}",
            error.path(),
            error.inner()
        ))
    })
}
