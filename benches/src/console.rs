//! The console: how much, how soon, and what a slow reader costs.

use crate::figures::{Figures, median, megabytes, milliseconds, quantile, tell};
use crate::pty::Pty;
use crate::server::{Server, resident};
use crate::socket::{Finder, Keys, Screen, fresh_word, join, join_shell};
use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What a browser's terminal digests, in bytes per second.
const SLOW_READER: f64 = 10e6;
const FLOOD: &str = "yes abcdefghijklmnopqrstuvwxyz0123456789";

/// Lines of log as a build prints them.
fn log_file(megabytes: usize) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    let mut text = Vec::with_capacity(megabytes * 1_000_000);
    let mut line = 0;
    while text.len() < megabytes * 1_000_000 {
        line += 1;
        writeln!(text, "[{line}] compiling session worktree container")?;
    }
    file.write_all(&text)?;
    Ok(file)
}

/// Bulk output through the console beside a bare loop that reads a terminal.
pub(crate) async fn throughput(
    dist: &Path,
    rounds: usize,
    size: usize,
    figures: &mut Figures,
) -> Result<()> {
    let file = log_file(size)?;
    let command = format!("cat {}", file.path().display());
    let server = Server::start(dist).await?;
    let repository = server.repository(1).await?;
    let (session, _) = server.session(&repository).await?;
    let (mut keys, mut screen) = join_shell(&server.address, &session).await?;
    let (mut bare, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let bare_command = command.clone();
        let (count, time) =
            tokio::task::spawn_blocking(move || Pty::open()?.run(&bare_command)).await??;
        let bare_speed = megabytes(count) / time.as_secs_f64();
        let (word, mark) = fresh_word();
        let begin = Instant::now();
        keys.types(&format!(" {command}; {mark}\r")).await?;
        let count = screen.until(&word).await?;
        let our_speed = megabytes(count) / begin.elapsed().as_secs_f64();
        tell(&format!(
            "round {round}: bare {bare_speed:.1} MB/s, console {our_speed:.1} MB/s"
        ));
        bare.push(bare_speed);
        ours.push(our_speed);
        ratios.push(our_speed / bare_speed);
        screen.until_quiet(Duration::from_millis(200)).await?;
    }
    let ratio = median(&mut ours) / median(&mut bare);
    figures.add("bare PTY loop, MB/s", format!("{:.1}", median(&mut bare)));
    figures.add(
        "console, one client, MB/s",
        format!("{:.1}", median(&mut ours)),
    );
    figures.judge(
        "console ÷ bare PTY loop",
        format!("{ratio:.2}"),
        "≥ 0.80",
        ratio >= 0.8,
    );
    server.stop().await
}

/// One key at a time through `cat`, until it comes back.
pub(crate) async fn echo(dist: &Path, figures: &mut Figures) -> Result<()> {
    const KEYS: usize = 1000;
    const PAUSE: Duration = Duration::from_millis(2);
    let bare = tokio::task::spawn_blocking(|| Pty::open()?.echo(KEYS, PAUSE));
    let mut bare = bare.await??;
    let server = Server::start(dist).await?;
    let repository = server.repository(1).await?;
    let (session, _) = server.session(&repository).await?;
    let (mut keys, mut screen) = join_shell(&server.address, &session).await?;
    keys.types(" stty -echo -icanon min 1; cat\r").await?;
    screen.until_quiet(Duration::from_millis(300)).await?;
    let mut ours = Vec::new();
    for number in 0..KEYS {
        let key = char::from(b'A' + u8::try_from(number % 26)?).to_string();
        let begin = Instant::now();
        keys.types(&key).await?;
        screen.until(&key).await?;
        ours.push(begin.elapsed().as_secs_f64() * 1e6);
        sleep(PAUSE).await;
    }
    let told =
        |values: &mut Vec<f64>| format!("{:.0} / {:.0}", median(values), quantile(values, 0.99));
    figures.add("echo, bare PTY loop, p50 / p99 µs", told(&mut bare));
    figures.add("echo, console, p50 / p99 µs", told(&mut ours));
    server.stop().await
}

/// Reads no faster than a browser's terminal does, until a word comes; how many bytes came after `from`.
async fn read_slowly(screen: &mut Screen, word: &str, from: Instant) -> Result<u64> {
    let mut finder = Finder::new(word);
    let begin = Instant::now();
    let (mut count, mut late) = (0, 0);
    loop {
        let bytes = timeout(Duration::from_mins(1), screen.next()).await??;
        count += bytes.len() as u64;
        if Instant::now() >= from {
            late += bytes.len() as u64;
        }
        if finder.sees(&bytes) {
            return Ok(late);
        }
        let due = Duration::from_secs_f64(megabytes(count) * 1e6 / SLOW_READER);
        if let Some(early) = due.checked_sub(begin.elapsed()) {
            sleep(early).await;
        }
    }
}

/// From Ctrl-C in a flood to what the shell prints next, for a client that reads 10 MB/s.
pub(crate) async fn interrupt(dist: &Path, rounds: usize, figures: &mut Figures) -> Result<()> {
    const FLOOD_TIME: Duration = Duration::from_secs(1);
    // Ctrl-C throws away what was typed ahead, so the next command goes a moment later.
    const PAUSE: Duration = Duration::from_millis(20);
    let server = Server::start(dist).await?;
    let repository = server.repository(1).await?;
    let (session, _) = server.session(&repository).await?;
    let (mut keys, mut screen): (Keys, Screen) = join_shell(&server.address, &session).await?;
    let (mut times, mut late) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (word, mark) = fresh_word();
        keys.types(&format!(" {FLOOD}\r")).await?;
        let press = Instant::now() + FLOOD_TIME;
        let typing = async {
            sleep(FLOOD_TIME).await;
            keys.types("\x03").await?;
            sleep(PAUSE).await;
            keys.types(&format!(" {mark}\r")).await
        };
        let (typed, read) = tokio::join!(typing, read_slowly(&mut screen, &word, press));
        typed?;
        let after = read?;
        let time = milliseconds(press.elapsed());
        tell(&format!(
            "round {round}: {time:.0} ms, {:.2} MB after Ctrl-C",
            megabytes(after)
        ));
        times.push(time);
        late.push(megabytes(after));
        screen.until_quiet(Duration::from_millis(200)).await?;
    }
    let time = median(&mut times);
    figures.judge(
        "Ctrl-C to prompt, client reads 10 MB/s, ms",
        format!("{time:.0}"),
        "≤ 60",
        time <= 60.0,
    );
    figures.add(
        "output that still came, MB",
        format!("{:.2}", median(&mut late)),
    );
    server.stop().await
}

/// One client stops reading in a flood, another goes on.
pub(crate) async fn stall(dist: &Path, figures: &mut Figures) -> Result<()> {
    const SECONDS: usize = 5;
    let server = Server::start(dist).await?;
    let repository = server.repository(1).await?;
    let (session, _) = server.session(&repository).await?;
    let (mut keys, mut watcher) = join_shell(&server.address, &session).await?;
    let (_stalled_keys, mut stalled) = join(&server.address, &session).await?;
    stalled.until_quiet(Duration::from_millis(200)).await?;
    let before = resident(server.pid()?)?;
    keys.types(&format!(" {FLOOD}\r")).await?;
    let mut speeds = Vec::new();
    for _ in 0..SECONDS {
        let begin = Instant::now();
        let mut count = 0;
        while begin.elapsed() < Duration::from_secs(1) {
            count += timeout(Duration::from_secs(10), watcher.next())
                .await??
                .len() as u64;
        }
        speeds.push(megabytes(count) / begin.elapsed().as_secs_f64());
    }
    let grown = megabytes(resident(server.pid()?)?.saturating_sub(before));
    let told: Vec<String> = speeds.iter().map(|speed| format!("{speed:.0}")).collect();
    figures.add(
        "a client stalls: the other's MB/s each second",
        told.join(", "),
    );
    figures.add(
        "a client stalls: server memory grows by, MB",
        format!("{grown:.1}"),
    );
    let (word, mark) = fresh_word();
    keys.types("\x03").await?;
    sleep(Duration::from_millis(20)).await;
    keys.types(&format!(" {mark}\r")).await?;
    let mut reading = JoinSet::new();
    let begin = Instant::now();
    for mut screen in [watcher, stalled] {
        let word = word.clone();
        reading.spawn(async move { screen.until(&word).await });
    }
    let mut most = 0;
    while let Some(read) = reading.join_next().await {
        most = most.max(read?.context("a client did not see the end")?);
    }
    figures.add(
        "a client stalls: both see the end after, ms",
        format!(
            "{:.0} ({:.1} MB)",
            milliseconds(begin.elapsed()),
            megabytes(most)
        ),
    );
    server.stop().await
}
