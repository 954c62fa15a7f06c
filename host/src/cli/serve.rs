//! `berth serve`.

use super::output::line;
use super::settings::Settings;
use crate::app::App;
use crate::config::{Config, Environment};
use crate::telemetry;
use anyhow::Context;
use clap::Args;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Run the server
#[derive(Debug, Args)]
#[command(
    after_help = "Flag > environment > berth.toml > default; `berth config` prints what holds.
SIGTERM or Ctrl-C ends the server and leaves sessions running; `berth rm --all` ends those."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

/// Serves until a signal ends it.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let loaded = Config::load(&arguments.settings.given(), &Environment::of_process())?;
    telemetry::start(&loaded.config.log).context("cannot start the log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .max_blocking_threads(64)
        .thread_stack_size(1024 * 1024)
        .thread_name("berth")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let app = App::build(loaded.config).await?;
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let signals = {
            let stop = stop.clone();
            async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("stopping; a second signal ends at once");
                stop.cancel();
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
        };
        tokio::select! {
            ended = app.run(stop, announce) => ended.map(|()| ExitCode::SUCCESS).map_err(Into::into),
            () = signals => Ok(ExitCode::from(130)),
        }
    })
}

/// The one line that scripts wait for. A closed standard output is no reason to stop.
fn announce(address: std::net::SocketAddr) {
    if let Err(error) = line(&format!("berth listening on http://{address}")) {
        tracing::warn!(%error, "cannot write the address to standard output");
    }
}

/// As many as there are processors, at least 2 and at most 8: the server waits more than it computes.
fn worker_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8)
}
