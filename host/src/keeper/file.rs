//! Files of the session, as streams.

use super::body::{Body, send_all};
use super::connection::query;
use super::{ANSWER_LIMIT, Keeper, KeeperError};
use berth_keeper_protocol::{FileStat, OFFSET_HEADER};
use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How a file is put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutFile {
    /// Absolute.
    pub path: String,
    /// Its permission bits; absent: 0644.
    pub mode: Option<u32>,
    /// Take the place of a file that is there.
    pub overwrite: bool,
    /// Make the folders above it, where they are missing.
    pub parents: bool,
    /// An absolute folder that the file must be in once links are resolved.
    pub beneath: Option<String>,
}

/// A file's bytes.
#[derive(Debug)]
pub struct FileBody {
    offset: u64,
    body: Body,
}

impl FileBody {
    /// Where the first byte stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// The file could not be read on, or the connection is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes, KeeperError>> {
        self.body.next().await
    }
}

impl Keeper {
    /// Puts a file, whole or not at all: it is there, under its name, only once everything has arrived.
    ///
    /// # Errors
    /// A file is there ([`KeeperError::is_conflict`]), its folder is not ([`KeeperError::is_not_found`]), `source` fails,
    /// or the connection is lost.
    pub async fn put_file(
        &self,
        put: &PutFile,
        mut source: impl AsyncRead + Unpin,
    ) -> Result<FileStat, KeeperError> {
        let mode = put.mode.map(|mode| mode.to_string());
        let mut pairs = vec![("path", put.path.as_str())];
        pairs.extend(mode.as_deref().map(|mode| ("mode", mode)));
        pairs.extend(put.overwrite.then_some(("overwrite", "true")));
        pairs.extend(put.parents.then_some(("parents", "true")));
        pairs.extend(put.beneath.as_deref().map(|folder| ("beneath", folder)));
        let path = format!("/v1/file?{}", query(&pairs));
        let (mut body, answer) = self.connection.begin(Method::PUT, &path, false).await?;
        let mut accepting = std::pin::pin!(self.connection.accept("/v1/file", answer));
        let sending = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(64 * 1024);
                let count = source.read_buf(&mut buffer).await;
                let count = count.map_err(|error| KeeperError::Source {
                    reason: error.to_string(),
                })?;
                if count == 0 {
                    return self.connection.finish(&mut body, Bytes::new()).await;
                }
                send_all(&mut body, buffer.split().freeze(), self.connection.lease()).await?;
            }
        };
        let answer = tokio::select! {
            biased;
            answer = &mut accepting => answer,
            sent = sending => match sent {
                Err(error @ KeeperError::Source { .. }) => return Err(error),
                // Where the keeper has stopped listening, its answer says why.
                _ => accepting.await,
            },
        };
        let answer = answer?.document().await?;
        serde_json::from_slice(&answer)
            .map_err(|error| KeeperError::malformed(format!("an answer to /v1/file: {error}")))
    }

    /// Reads a file from byte `offset` to its end.
    ///
    /// # Errors
    /// It is not there ([`KeeperError::is_not_found`]) or no file, or the connection is lost.
    pub async fn get_file(&self, path: &str, offset: u64) -> Result<FileBody, KeeperError> {
        let offset = offset.to_string();
        let path = format!(
            "/v1/file?{}",
            query(&[("path", path), ("offset", offset.as_str())])
        );
        let (_, answer) = self.connection.begin(Method::GET, &path, true).await?;
        let (head, body) = self.connection.accept_head("/v1/file", answer).await?;
        let offset = head
            .headers
            .get(OFFSET_HEADER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .ok_or_else(|| KeeperError::malformed("a file without its offset"))?;
        Ok(FileBody { offset, body })
    }

    /// What is at a path, links followed; `None`: nothing.
    ///
    /// # Errors
    /// The path is not absolute or not to be reached, or the connection is lost.
    pub async fn stat(&self, path: &str) -> Result<Option<FileStat>, KeeperError> {
        let path = format!("/v1/stat?{}", query(&[("path", path)]));
        let found = self
            .connection
            .ask(Method::GET, &path, &(), ANSWER_LIMIT)
            .await;
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
