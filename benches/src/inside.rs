//! What is measured inside: the event log, and a call through the plugin door.

use crate::figures::{Figures, median};
use anyhow::{Context as _, Result, bail};
use berth_agent_shell::ShellAgent;
use berth_host::db::Database;
use berth_host::driver::Isolation;
use berth_host::event::{ChatMessage, Delivery, EventBody, EventLog, NewEvent};
use berth_host::plugin::{PluginDir, PluginSettings, load_all};
use berth_host::session::{Role, SessionId};
use berth_plugin_api::Agent;
use berth_plugin_api::doc::{LaunchRequest, OpenRequest};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// Events that are stored and then told to one subscriber, per second.
pub(crate) async fn events(figures: &mut Figures) -> Result<()> {
    const WRITERS: u32 = 8;
    const APPENDS: u32 = 500;
    const EACH: u32 = 25;
    let folder = tempfile::tempdir()?;
    let database = Database::open(&folder.path().join("berth.db")).await?;
    let log = Arc::new(EventLog::open(database));
    let session = SessionId::generate();
    let mut subscription = log.subscribe(session, Some(0)).await?;
    let mut writers = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..WRITERS {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            for _ in 0..APPENDS {
                let events = (0..EACH).map(|_| said()).collect();
                log.append(session, events).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let all = WRITERS * APPENDS * EACH;
    let mut seen = 0;
    while seen < all {
        match subscription.next().await? {
            Delivery::Event(_) => seen += 1,
            Delivery::Behind => {
                // As a client does: it comes again with the last number that it has seen.
                subscription = log.subscribe(session, Some(u64::from(seen))).await?;
            }
            Delivery::Closed => bail!("the event log closed"),
        }
    }
    let rate = f64::from(all) / begin.elapsed().as_secs_f64();
    while let Some(written) = writers.join_next().await {
        written??;
    }
    figures.judge(
        "events per second, stored, one subscriber",
        format!("{rate:.0}"),
        "≥ 45000",
        rate >= 45_000.0,
    );
    Ok(())
}

fn said() -> NewEvent {
    EventBody::ChatMessage {
        message: ChatMessage {
            role: Role::Assistant,
            content: "a sentence of some length, as an agent says it".to_owned(),
        },
    }
    .into()
}

/// A call of a plugin from its library, through the door, beside the same function called in this program.
pub(crate) async fn plugin_call(dist: &Path, figures: &mut Figures) -> Result<()> {
    const CALLS: u32 = 2000;
    const ROUNDS: usize = 5;
    let folder = tempfile::tempdir()?;
    let settings = PluginSettings {
        dirs: vec![PluginDir {
            path: dist.join("lib/berth/plugins"),
            isolation: Isolation::None,
        }],
        instance: "bench".to_owned(),
        data_dir: folder.path().to_owned(),
        ..PluginSettings::default()
    };
    let drivers = load_all(&settings).await;
    let through = drivers
        .agents
        .get("shell")
        .with_context(|| format!("the shell was not loaded: {:?}", drivers.refused))?;
    let direct = ShellAgent::open(OpenRequest::default())?;
    let request = LaunchRequest::default();
    let (mut direct_times, mut door_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(direct.launch(request.clone())?);
        }
        direct_times.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
        let begin = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(through.launch(&request).await?);
        }
        door_times.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
    }
    figures.add(
        "launch plan of the shell, direct call, µs",
        format!("{:.2}", median(&mut direct_times)),
    );
    figures.add(
        "the same through the plugin door, µs",
        format!("{:.2}", median(&mut door_times)),
    );
    Ok(())
}
