//! Documents in and out.

use crate::raw::{Doc, Fault};
use crate::{Error, Result};
use abi_stable::std_types::{RErr, ROk, RResult};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a request. One that does not fit names its field.
pub(super) fn decode<T: DeserializeOwned>(document: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(document);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        Error::invalid(
            field.clone(),
            format!(
                "the plugin cannot read the request at {field}: {}",
                error.into_inner()
            ),
        )
    })
}

/// Writes an answer.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Doc> {
    serde_json::to_vec(value).map(Doc::from).map_err(|error| {
        Error::internal(format!(
            "the plugin's answer cannot be written as JSON: {error}"
        ))
    })
}

/// An outcome as it crosses.
pub(super) fn raw<T>(outcome: Result<T>) -> RResult<T, Fault> {
    match outcome {
        Ok(value) => ROk(value),
        Err(error) => RErr(error.into()),
    }
}
