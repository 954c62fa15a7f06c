//! What a console reads and writes: the keeper, or a stand-in in tests.

use crate::keeper::{Keeper, KeeperError};
use async_trait::async_trait;
use berth_keeper_protocol::Size;
use bytes::Bytes;
use futures_util::Stream;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// Why the keeper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The reader fell behind what the keeper keeps: ask again, with a gap.
    #[error("the reader fell behind what is kept")]
    Behind,
    /// The keeper refused this one request; the connection stands.
    #[error("{0}")]
    Refused(String),
    /// The connection is gone.
    #[error("{0}")]
    Lost(String),
}

/// A program's output from some offset on.
pub struct SourceOutput {
    /// The first byte's offset: what was asked for, or the oldest that is kept.
    pub first_offset: u64,
    /// Ends after the last byte once the program has ended.
    pub bytes: Pin<Box<dyn Stream<Item = Result<Bytes, SourceError>> + Send>>,
}

impl fmt::Debug for SourceOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceOutput")
            .field("first_offset", &self.first_offset)
            .finish_non_exhaustive()
    }
}

/// A program's terminal.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// The output from an offset on; the program waits for this reader for at most `pace`.
    async fn output(&self, from: u64, pace: Duration) -> Result<SourceOutput, SourceError>;
    /// Types bytes. Done when the terminal has taken them all.
    async fn input(&self, bytes: Bytes) -> Result<(), SourceError>;
    /// Sets the terminal's size.
    async fn resize(&self, size: Size) -> Result<(), SourceError>;
    /// The size that the terminal has.
    async fn size(&self) -> Result<Size, SourceError>;
}

impl From<KeeperError> for SourceError {
    fn from(error: KeeperError) -> Self {
        match error {
            KeeperError::Behind => Self::Behind,
            error if error.is_lost() => Self::Lost(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

#[async_trait]
impl Source for Keeper {
    async fn output(&self, from: u64, pace: Duration) -> Result<SourceOutput, SourceError> {
        let output = Self::output(self, from, Some(pace)).await?;
        Ok(SourceOutput {
            first_offset: output.first_offset(),
            bytes: Box::pin(futures_util::stream::unfold(output, |mut output| async {
                let chunk = output.next().await?;
                let bytes = chunk.map(|chunk| chunk.bytes).map_err(SourceError::from);
                Some((bytes, output))
            })),
        })
    }

    async fn input(&self, bytes: Bytes) -> Result<(), SourceError> {
        Ok(Self::input(self, bytes).await?)
    }

    async fn resize(&self, size: Size) -> Result<(), SourceError> {
        Ok(Self::resize(self, size).await?)
    }

    async fn size(&self) -> Result<Size, SourceError> {
        Ok(Self::status(self).await?.size)
    }
}
