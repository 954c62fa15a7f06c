//! What `make bench` runs: each figure beside its peer, in one run, on one machine. `docs/performance.md` says how to read
//! them.
//!
//! Two cores are shared by client, server, program and kernel, so ends take turns and medians count.

mod console;
mod figures;
mod inside;
mod lifecycle;
mod pty;
mod server;
mod socket;

use anyhow::Result;
use clap::Parser;
use figures::Figures;
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(about = "Measures berth beside its peers")]
struct Arguments {
    /// The folder that `make build` made
    #[arg(long, default_value = "dist")]
    dist: PathBuf,
    /// Parts to measure: start, create, throughput, echo, interrupt, stall, events, plugin
    #[arg(long)]
    only: Vec<String>,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Megabytes of output in a round of throughput
    #[arg(long, default_value_t = 100)]
    megabytes: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wants =
        |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let mut figures = Figures::default();
    if wants("start") {
        lifecycle::start(&arguments.dist, arguments.rounds, &mut figures).await?;
    }
    if wants("create") {
        lifecycle::create(&arguments.dist, arguments.rounds, &mut figures).await?;
    }
    if wants("throughput") {
        console::throughput(
            &arguments.dist,
            arguments.rounds,
            arguments.megabytes,
            &mut figures,
        )
        .await?;
    }
    if wants("echo") {
        console::echo(&arguments.dist, &mut figures).await?;
    }
    if wants("interrupt") {
        console::interrupt(&arguments.dist, arguments.rounds, &mut figures).await?;
    }
    if wants("stall") {
        console::stall(&arguments.dist, &mut figures).await?;
    }
    if wants("events") {
        inside::events(&mut figures).await?;
    }
    if wants("plugin") {
        inside::plugin_call(&arguments.dist, &mut figures).await?;
    }
    figures.print();
    Ok(())
}
