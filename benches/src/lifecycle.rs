//! The server's start, and a session's.

use crate::figures::{Figures, median, megabytes, milliseconds};
use crate::server::{Server, command, free_port, resident, scratch};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

/// From start to the first 200 of `/health`, and the memory of an idle server.
pub(crate) async fn start(dist: &Path, rounds: usize, figures: &mut Figures) -> Result<()> {
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let folder = scratch()?;
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        let begin = Instant::now();
        let mut child = command(dist, folder.path(), &address).spawn()?;
        while !is_healthy(&address).await {
            ensure!(
                begin.elapsed() < Duration::from_secs(20),
                "the server does not answer"
            );
            sleep(Duration::from_micros(200)).await;
        }
        times.push(milliseconds(begin.elapsed()));
        sleep(Duration::from_secs(2)).await;
        memory.push(megabytes(resident(child.id().unwrap_or(0))?));
        child.kill().await?;
    }
    let time = median(&mut times);
    figures.judge(
        "start to the first 200 of /health, new data folder, ms",
        format!("{time:.1}"),
        "≤ 30",
        time <= 30.0,
    );
    let idle = median(&mut memory);
    figures.judge(
        "idle server, resident MB",
        format!("{idle:.1}"),
        "≤ 20",
        idle <= 20.0,
    );
    Ok(())
}

async fn is_healthy(address: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.ends_with(b" 200"))
    };
    ask.await.unwrap_or(false)
}

/// From the request to a session that runs, beside what git needs for the working tree alone.
pub(crate) async fn create(dist: &Path, rounds: usize, figures: &mut Figures) -> Result<()> {
    let server = Server::start(dist).await?;
    let repository = server.repository(100).await?;
    let (mut clones, mut sessions) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let folder = scratch()?;
        let begin = Instant::now();
        let status = Command::new("git")
            .args(["clone", "-q", "--shared"])
            .arg(&repository)
            .arg(folder.path().join("clone"))
            .status()
            .await?;
        ensure!(status.success(), "git clone: {status}");
        let clone = milliseconds(begin.elapsed());
        let (id, time) = server.session(&repository).await?;
        server.delete(&id).await?;
        // The first of each warms up.
        if round > 0 {
            clones.push(clone);
            sessions.push(milliseconds(time));
        }
    }
    let over = median(&mut sessions) - median(&mut clones);
    figures.add(
        "git clone --shared, 100 files, ms",
        format!("{:.1}", median(&mut clones)),
    );
    figures.add(
        "POST to running, local, same repository, ms",
        format!("{:.1}", median(&mut sessions)),
    );
    figures.judge(
        "the same, over the clone, ms",
        format!("{over:.1}"),
        "≤ 50",
        over <= 50.0,
    );
    server.stop().await
}
