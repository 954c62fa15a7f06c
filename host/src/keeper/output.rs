//! Streams that the main program makes: its output, and its changes of state.

use super::body::{Body, Frames};
use super::connection::{Connection, query};
use super::{KeeperError, millis};
use berth_keeper_protocol::{OFFSET_HEADER, Status};
use bytes::Bytes;
use http::Method;
use std::time::Duration;

/// The terminal's output. Dropping it stops the reading, not the program.
#[derive(Debug)]
pub struct Output {
    first_offset: u64,
    next_offset: u64,
    body: Body,
}

/// Some bytes of the terminal's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The number of the first byte.
    pub offset: u64,
    /// The bytes; never empty.
    pub bytes: Bytes,
}

impl Output {
    pub(super) async fn open(
        connection: &Connection,
        from: u64,
        pace: Option<Duration>,
    ) -> Result<Self, KeeperError> {
        let from = from.to_string();
        let pace = pace.map(|pace| millis(pace).to_string());
        let mut pairs = vec![("from", from.as_str())];
        pairs.extend(pace.as_deref().map(|pace| ("pace_ms", pace)));
        let path = format!("/v1/output?{}", query(&pairs));
        let (_, answer) = connection.begin(Method::GET, &path, true).await?;
        let (head, body) = connection.accept_head("/v1/output", answer).await?;
        let first_offset = head
            .headers
            .get(OFFSET_HEADER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .ok_or_else(|| KeeperError::malformed("output without its offset"))?;
        Ok(Self {
            first_offset,
            next_offset: first_offset,
            body,
        })
    }

    /// The number of the first byte of the first chunk. Greater than what was asked for: the bytes between are lost.
    /// Less: the keeper never had so many, it is another one.
    pub fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// The number of the byte that comes next.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The next bytes, without gap; `None` after the program's last byte. Cancel safe.
    ///
    /// # Errors
    /// The reader was too slow ([`KeeperError::Behind`]), or the connection is lost: ask again from
    /// [`Output::next_offset`].
    pub async fn next(&mut self) -> Option<Result<Chunk, KeeperError>> {
        let chunk = self.body.next().await?.map(|bytes| Chunk {
            offset: self.next_offset,
            bytes,
        });
        if let Ok(chunk) = &chunk {
            self.next_offset += chunk.bytes.len() as u64;
        }
        Some(chunk)
    }
}

/// The main program's states.
#[derive(Debug)]
pub struct Changes {
    frames: Frames,
}

impl Changes {
    pub(super) async fn open(connection: &Connection) -> Result<Self, KeeperError> {
        let (_, answer) = connection.begin(Method::GET, "/v1/changes", true).await?;
        let body = connection.accept("/v1/changes", answer).await?;
        Ok(Self {
            frames: Frames::new(body),
        })
    }

    /// The status now, then at each change; `None` when the keeper ends. Cancel safe.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn next(&mut self) -> Option<Result<Status, KeeperError>> {
        self.line().await.transpose()
    }

    async fn line(&mut self) -> Result<Option<Status>, KeeperError> {
        let mut searched = 0;
        loop {
            let found = self.frames.held()[searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = found {
                let line = self.frames.take(searched + end + 1);
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| KeeperError::malformed(format!("a change: {error}")));
            }
            searched = self.frames.held().len();
            if searched > 64 * 1024 {
                return Err(KeeperError::malformed("a change of more than 64 KiB"));
            }
            if !self.frames.fill(searched + 1).await? {
                return Ok(None);
            }
        }
    }
}
