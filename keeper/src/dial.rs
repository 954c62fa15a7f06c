//! A byte stream to a server inside the session.

use crate::http::{Answer, Gone, Query, Refusal, code, next};
use bytes::BytesMut;
use h2::RecvStream;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

const PIECE: usize = 16 * 1024;

/// Joins a request to a server; each direction ends for itself.
pub(crate) async fn dial(
    query: &Query,
    body: &mut RecvStream,
    answer: &Answer,
) -> Result<(), Refusal> {
    if let Some(path) = query.find("unix") {
        let stream = UnixStream::connect(path).await;
        let (read, write) = stream
            .map_err(|error| unreachable(path, &error))?
            .into_split();
        relay(read, write, body, answer).await;
        return Ok(());
    }
    let Some(port) = query.parsed::<u16>("tcp")? else {
        return Err(Refusal::new(code::INVALID, "neither unix nor tcp is given"));
    };
    let stream = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => Ok(stream),
        // Where it listens on IPv6 alone; else what IPv4 said counts.
        Err(error) => TcpStream::connect(("::1", port)).await.map_err(|_| error),
    };
    let stream = stream.map_err(|error| unreachable(&format!("port {port}"), &error))?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    relay(read, write, body, answer).await;
    Ok(())
}

fn unreachable(target: &str, error: &io::Error) -> Refusal {
    Refusal::new(
        code::NOT_FOUND,
        format!("nobody answers at {target}: {error}"),
    )
}

async fn relay(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    body: &mut RecvStream,
    answer: &Answer,
) {
    let up = async {
        while let Ok(Some(bytes)) = next(body).await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        write.shutdown().await.ok();
    };
    let down = async {
        answer.begin(&[])?;
        loop {
            let mut buffer = BytesMut::with_capacity(PIECE);
            match read.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) => answer.send_all(buffer.freeze()).await?,
                Err(_) => {
                    answer.reset(h2::Reason::CANCEL);
                    return Err(Gone);
                }
            }
        }
        answer.finish(bytes::Bytes::new());
        Ok(())
    };
    tokio::join!(up, down).1.ok();
}
