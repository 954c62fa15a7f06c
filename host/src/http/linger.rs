//! Closing a connection without breaking it.
//!
//! A socket that is closed while bytes from its client are still to be read is reset, and the client may lose what it was
//! told last: the status of a refused body, the code and reason of a WebSocket's close. So the way out is closed first, and
//! what the client still sends is taken and dropped, for a moment.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a client may take to see that it was told goodbye.
const LIMIT: Duration = Duration::from_secs(1);

/// A connection that is given back, not closed, when whoever serves it lets go of it.
#[derive(Debug)]
pub(super) struct Lent {
    stream: Option<TcpStream>,
    back: Option<oneshot::Sender<TcpStream>>,
}

/// Where a lent connection comes back.
#[derive(Debug)]
pub(super) struct Returned(oneshot::Receiver<TcpStream>);

/// Lends a connection.
pub(super) fn lend(stream: TcpStream) -> (Lent, Returned) {
    let (back, returned) = oneshot::channel();
    let lent = Lent {
        stream: Some(stream),
        back: Some(back),
    };
    (lent, Returned(returned))
}

impl Returned {
    /// Waits until nobody serves the connection any more, and closes it.
    pub(super) async fn close(self) {
        let Ok(mut stream) = self.0.await else {
            return;
        };
        let farewell = async {
            stream.shutdown().await?;
            let mut dropped = [0; 4096];
            while stream.read(&mut dropped).await? > 0 {}
            io::Result::Ok(())
        };
        // Whether the client went in time or not, it has had its chance.
        let _ = timeout(LIMIT, farewell).await.is_ok();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Where nobody waits for it, it is closed here.
            drop(back.send(stream));
        }
    }
}

impl Lent {
    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.stream.as_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
