//! A keeper as the console sees it: a terminal to read and to type into.

use crate::console::{Source, SourceError, SourceOutput};
use crate::keeper::{Keeper, KeeperError, Output};
use async_trait::async_trait;
use berth_keeper_protocol::Size;
use bytes::Bytes;
use futures_util::stream;
use std::time::Duration;

/// A keeper's terminal.
#[derive(Debug)]
pub(super) struct Terminal(pub(super) Keeper);

#[async_trait]
impl Source for Terminal {
    async fn output(&self, from: u64, pace: Duration) -> Result<SourceOutput, SourceError> {
        let output = self.0.output(from, Some(pace)).await.map_err(fault)?;
        Ok(SourceOutput {
            first_offset: output.first_offset(),
            bytes: Box::pin(stream::unfold(output, next)),
        })
    }

    async fn input(&self, bytes: Bytes) -> Result<(), SourceError> {
        self.0.input(bytes).await.map_err(fault)
    }

    async fn resize(&self, size: Size) -> Result<(), SourceError> {
        self.0.resize(size).await.map_err(fault)
    }
}

async fn next(mut output: Output) -> Option<(Result<Bytes, SourceError>, Output)> {
    let chunk = output.next().await?;
    let bytes = chunk.map(|chunk| chunk.bytes).map_err(fault);
    Some((bytes, output))
}

fn fault(error: KeeperError) -> SourceError {
    match error {
        KeeperError::Behind => SourceError::Behind,
        error if error.is_lost() => SourceError::Lost(error.to_string()),
        error => SourceError::Refused(error.to_string()),
    }
}
