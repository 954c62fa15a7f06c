//! Following files that grow.

use super::body::Frames;
use super::{Keeper, KeeperError};
use berth_keeper_protocol::{Follow, FollowFrame};
use bytes::Bytes;
use http::Method;

/// A frame holds at most one piece of a line that is too long.
const FRAME_LIMIT: usize = 2 << 20;

/// Files being followed. Dropping it ends that.
#[derive(Debug)]
pub struct Following {
    frames: Frames,
}

impl Keeper {
    /// Follows the files that match a glob, those made later included. To go on after a restart, give for each file the
    /// position one past the last frame that was dealt with: its `offset` plus its length.
    ///
    /// # Errors
    /// The glob is not absolute, or the connection is lost.
    pub async fn follow(&self, follow: &Follow) -> Result<Following, KeeperError> {
        let document = serde_json::to_vec(follow)
            .map_err(|error| KeeperError::malformed(error.to_string()))?;
        let (mut body, answer) = self
            .connection
            .begin(Method::POST, "/v1/follow", false)
            .await?;
        self.connection
            .finish(&mut body, document.into())
            .await
            .ok();
        let body = self.connection.accept("/v1/follow", answer).await?;
        Ok(Following {
            frames: Frames::new(body),
        })
    }
}

impl Following {
    /// The next lines and where they stand. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn next(&mut self) -> Option<Result<(FollowFrame, Bytes), KeeperError>> {
        self.frame().await.transpose()
    }

    async fn frame(&mut self) -> Result<Option<(FollowFrame, Bytes)>, KeeperError> {
        if !self.frames.fill(4).await? {
            return Ok(None);
        }
        let head = self.frames.held();
        let document = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if document > FRAME_LIMIT {
            return Err(KeeperError::malformed("a follow frame of more than 2 MiB"));
        }
        self.frames.fill(4 + document).await?;
        let frame: FollowFrame = serde_json::from_slice(&self.frames.held()[4..4 + document])
            .map_err(|error| KeeperError::malformed(format!("a follow frame: {error}")))?;
        let bytes = frame.bytes as usize;
        if bytes > FRAME_LIMIT {
            return Err(KeeperError::malformed("a follow frame of more than 2 MiB"));
        }
        self.frames.fill(4 + document + bytes).await?;
        let bytes = self.frames.take(4 + document + bytes).slice(4 + document..);
        Ok(Some((frame, bytes)))
    }
}
