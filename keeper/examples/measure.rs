//! Measures a keeper and the host's client beside a bare terminal, in one run:
//! `cargo run --release -p berth-keeper --example measure -- PATH/TO/berth-keeper [bulk] [echo] [interrupt]`

use anyhow::{Context as _, ensure};
use berth_host::keeper::protocol::{Program, Size, StartExec, StartProgram};
use berth_host::keeper::{ExecEvent, Keeper, Output};
use berth_plugin_api::Stream;
use bytes::Bytes;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::time::sleep;

const BULK: usize = 200 << 20;
const ECHOES: usize = 2000;
const ROUNDS: usize = 5;
const ECHO: &str = "stty raw -echo; echo ready; exec cat";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let keeper = arguments.next().context("the keeper's path is missing")?;
    let wanted: Vec<String> = arguments.collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    if wants("bulk") {
        compare_bulk(&keeper).await?;
    }
    if wants("echo") {
        compare_echo(&keeper).await?;
    }
    if wants("interrupt") {
        for rate in [None, Some(10_000_000.0)] {
            let name = rate.map_or("full speed".to_owned(), |rate: f64| {
                format!("{} MB/s", rate / 1e6)
            });
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.push(interrupt(&keeper, rate).await?);
            }
            say(&format!(
                "interrupt reader at {name}: {:.1} ms until the prompt (median)",
                median(times)
            ))?;
        }
    }
    Ok(())
}

async fn compare_bulk(keeper: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bulk");
    let mut line = 0;
    let mut text = String::with_capacity(BULK + 100);
    while text.len() < BULK {
        line += 1;
        writeln!(
            text,
            "2026-11-24T12:00:00Z INFO worker{} handled request {line} in 12 ms",
            line % 8
        )?;
    }
    std::fs::write(&file, &text)?;
    drop(text);
    let cat = format!("cat {}", file.display());
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let script = cat.clone();
        bare.push(tokio::task::spawn_blocking(move || bare_bulk(&script)).await??);
        through.push(bulk(keeper, &cat).await?);
    }
    let (bare, through) = (median(bare), median(through));
    say(&format!(
        "bulk      bare {bare:.1} MB/s, keeper {through:.1} MB/s, ratio {:.2}",
        through / bare
    ))
}

async fn compare_echo(keeper: &str) -> anyhow::Result<()> {
    let idle = tokio::task::spawn_blocking(bare_echo).await??;
    say(&format!("echo      bare {}", spread(idle)))?;
    say(&format!(
        "echo      keeper {}",
        spread(echo(keeper, None).await?)
    ))?;
    for (name, pause) in [
        ("read at full speed", Duration::ZERO),
        ("read slowly", Duration::from_millis(3)),
    ] {
        let times = spread(echo(keeper, Some(pause)).await?);
        say(&format!("echo      keeper, beside a flood {name}: {times}"))?;
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(format!("{line}\n").as_bytes())?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let micros = |part: usize| times[(times.len() - 1) * part / 100].as_micros();
    format!("p50 {} µs, p99 {} µs", micros(50), micros(99))
}

fn bare_terminal(script: &str) -> anyhow::Result<portable_pty::PtyPair> {
    let pair = native_pty_system().openpty(PtySize::default())?;
    let mut command = CommandBuilder::new("/bin/sh");
    command.args(["-c", script]);
    pair.slave.spawn_command(command)?;
    Ok(pair)
}

fn bare_bulk(script: &str) -> anyhow::Result<f64> {
    let pair = bare_terminal(script)?;
    let mut reader = pair.master.try_clone_reader()?;
    drop(pair.slave);
    let (since, mut total, mut buffer) = (Instant::now(), 0, vec![0; 64 * 1024]);
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => total += count,
        }
    }
    Ok(megabytes(total, since))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(total: usize, since: Instant) -> f64 {
    total as f64 / 1e6 / since.elapsed().as_secs_f64()
}

fn bare_echo() -> anyhow::Result<Vec<Duration>> {
    let pair = bare_terminal(ECHO)?;
    let (mut reader, mut writer) = (pair.master.try_clone_reader()?, pair.master.take_writer()?);
    let mut byte = [0; 1];
    while byte != *b"y" {
        reader.read_exact(&mut byte)?;
    }
    std::thread::sleep(Duration::from_millis(50));
    while byte != *b"\n" {
        reader.read_exact(&mut byte)?;
    }
    let mut times = Vec::new();
    for _ in 0..ECHOES {
        std::thread::sleep(Duration::from_micros(300));
        let since = Instant::now();
        writer.write_all(b"x")?;
        reader.read_exact(&mut byte)?;
        times.push(since.elapsed());
    }
    Ok(times)
}

/// A keeper of one measurement; ended with it.
struct World {
    child: std::process::Child,
    keeper: Keeper,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(program: &str, script: &str) -> anyhow::Result<(Self, Output)> {
        let folder = tempfile::tempdir()?;
        let child = Command::new(program)
            .args(["run", "--session", "bench", "--grace-ms", "0"])
            .env("BERTH_STATE", folder.path())
            .stdin(Stdio::null())
            .spawn()?;
        let keeper = Keeper::connect(reach(&folder.path().join("keeper.sock")).await?).await?;
        let start = StartProgram {
            run_id: "run".to_owned(),
            program: shell(script),
            ..StartProgram::default()
        };
        keeper.start(&start).await?;
        let output = keeper.output(0, Some(Duration::from_secs(2))).await?;
        let world = Self {
            child,
            keeper,
            _folder: folder,
        };
        Ok((world, output))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.child.wait().ok();
    }
}

async fn reach(socket: &Path) -> anyhow::Result<Stream> {
    for _ in 0..1000 {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return Ok(Stream::new(stream));
        }
        sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("the keeper does not listen")
}

fn shell(script: &str) -> Program {
    Program {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("PS1".to_owned(), "PROMPT".to_owned())]),
        cwd: None,
    }
}

async fn bulk(program: &str, script: &str) -> anyhow::Result<f64> {
    let (world, mut output) = World::start(program, script).await?;
    let (since, mut total) = (Instant::now(), 0);
    while let Some(chunk) = output.next().await {
        total += chunk?.bytes.len();
    }
    ensure!(total > BULK, "{total} bytes only");
    let rate = megabytes(total, since);
    let pid = world.child.id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().find(|line| line.starts_with("VmRSS"));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks: Vec<&str> = stat.split_whitespace().skip(13).take(2).collect();
    say(&format!(
        "          keeper: {}, {} ticks of its own, {} in the kernel",
        memory.unwrap_or_default(),
        ticks[0],
        ticks[1]
    ))?;
    Ok(rate)
}

async fn echo(program: &str, flood: Option<Duration>) -> anyhow::Result<Vec<Duration>> {
    let (world, mut output) = World::start(program, ECHO).await?;
    wait_for(&mut output, "ready\n").await?;
    let flooding = async {
        let Some(pause) = flood else {
            return std::future::pending::<anyhow::Result<()>>().await;
        };
        let start = StartExec {
            program: shell("exec yes 'a line of some length that is repeated for ever'"),
            terminal: Some(Size::default()),
        };
        let mut exec = world.keeper.exec(&start).await?;
        while let Some(event) = exec.output.next().await {
            ensure!(matches!(event?, ExecEvent::Stdout(_)), "the flood ended");
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        Ok(())
    };
    let echoing = async {
        sleep(Duration::from_millis(100)).await;
        let mut times = Vec::new();
        for _ in 0..ECHOES {
            // A person types into a terminal that waits.
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_micros(300))).await?;
            let since = Instant::now();
            let (typed, seen) =
                tokio::join!(world.keeper.input(Bytes::from_static(b"x")), output.next());
            typed?;
            seen.context("the end")??;
            times.push(since.elapsed());
        }
        anyhow::Ok(times)
    };
    tokio::select! {
        result = flooding => result.map(|()| Vec::new()),
        result = echoing => result,
    }
}

async fn wait_for(output: &mut Output, text: &str) -> anyhow::Result<()> {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = output.next().await.context("the end")??;
        seen.push_str(&String::from_utf8_lossy(&chunk.bytes));
    }
    Ok(())
}

/// From Ctrl-C in a flood until the prompt has been read, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
async fn interrupt(program: &str, rate: Option<f64>) -> anyhow::Result<f64> {
    let (world, mut output) = World::start(program, "exec bash --norc -i").await?;
    wait_for(&mut output, "PROMPT").await?;
    world
        .keeper
        .input(Bytes::from_static(b"yes 'a line of some length'\r"))
        .await?;
    let began = Instant::now();
    let (mut read, mut pressed, mut tail) = (0_usize, None, Vec::new());
    loop {
        let chunk = output.next().await.context("the end")??;
        read += chunk.bytes.len();
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(read as f64 / rate);
            sleep(due.saturating_sub(began.elapsed())).await;
        }
        if pressed.is_none() && began.elapsed() > Duration::from_millis(1500) {
            pressed = Some(Instant::now());
            world.keeper.input(Bytes::from_static(b"\x03")).await?;
        }
        if let Some(pressed) = pressed {
            tail.extend_from_slice(&chunk.bytes);
            if tail.windows(6).any(|window| window == b"PROMPT") {
                return Ok(pressed.elapsed().as_secs_f64() * 1e3);
            }
            let keep = tail.len().saturating_sub(16);
            tail.drain(..keep);
        }
    }
}
