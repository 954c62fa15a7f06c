//! Telling changes of places as they happen: our own acts through a channel, the end of a keeper through its pidfd.

use crate::error::LocalError;
use crate::lifecycle;
use crate::place::{Place, Places};
use crate::process::Process;
use crate::sys;
use berth_plugin_api::doc::{Inspection, PlaceState, WatchEvent};
use berth_plugin_api::{Error, Result, WatchSink};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// How many changes a watcher may be behind before it looks at all places anew.
const BEHIND: usize = 256;

/// Where our own operations say which place they changed.
#[derive(Debug)]
pub(crate) struct Changes(broadcast::Sender<String>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl Changes {
    pub(crate) fn tell(&self, session_id: &str) {
        // Nobody may be watching.
        let _ = self.0.send(session_id.to_owned());
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<String> {
        self.0.subscribe()
    }
}

/// What one watcher was told, and whose end it waits for.
struct Watcher<'a> {
    places: &'a Arc<Places>,
    instance: &'a str,
    sink: &'a WatchSink,
    told: BTreeMap<String, (Inspection, Option<Process>)>,
    /// Each ends with the keeper of the session that it gives.
    ends: JoinSet<String>,
}

/// Tells the present state of each place, then each change, until nobody listens.
pub(crate) async fn run(
    places: &Arc<Places>,
    mut changes: broadcast::Receiver<String>,
    instance: &str,
    sink: &WatchSink,
) -> Result<()> {
    let mut watcher = Watcher {
        places,
        instance,
        sink,
        told: BTreeMap::new(),
        ends: JoinSet::new(),
    };
    watcher.look_at_all().await?;
    loop {
        tokio::select! {
            told = changes.recv() => match told {
                Ok(id) => watcher.look_at(&id).await?,
                Err(RecvError::Lagged(_)) => watcher.look_at_all().await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            Some(ended) = watcher.ends.join_next() => {
                watcher.look_at(&ended.map_err(Error::internal)?).await?;
            }
        }
    }
}

impl Watcher<'_> {
    async fn look_at_all(&mut self) -> Result<()> {
        let (places, instance) = (Arc::clone(self.places), self.instance.to_owned());
        let listed = blocking(move || lifecycle::list(&places, &instance)).await?;
        let there = listed.into_iter().map(|listed| listed.session_id);
        let ids: BTreeSet<String> = there.chain(self.told.keys().cloned()).collect();
        for id in ids {
            self.look_at(&id).await?;
        }
        Ok(())
    }

    /// Tells what a place is doing, unless that is what was told last.
    async fn look_at(&mut self, id: &str) -> Result<()> {
        let place = self.places.place(id)?;
        let instance = self.instance.to_owned();
        let (foreign, keeper, inspection) = blocking(move || look(&place, &instance)).await?;
        if foreign {
            return Ok(());
        }
        let before = if inspection.state == PlaceState::Missing {
            self.told.remove(id)
        } else {
            self.told
                .insert(id.to_owned(), (inspection.clone(), keeper))
        };
        let (told, waited_for) = before.unwrap_or_default();
        if let Some(keeper) = keeper
            && waited_for != Some(keeper)
        {
            self.wait_for_end(id.to_owned(), keeper)?;
        }
        // An absent place is what the default says, so one that came and went between two looks is no news.
        if told == inspection {
            return Ok(());
        }
        let event = WatchEvent {
            session_id: id.to_owned(),
            inspection,
        };
        self.sink.send(event).await
    }

    fn wait_for_end(&mut self, id: String, keeper: Process) -> Result<()> {
        let pidfd = keeper.watch()?;
        self.ends.spawn(async move {
            if let Some(pidfd) = pidfd
                && let Err(fault) = sys::ended(pidfd).await
            {
                tracing::warn!(session.id = %id, %fault, "cannot wait for the end of a keeper");
                std::future::pending::<()>().await;
            }
            id
        });
        Ok(())
    }
}

/// Whether it is another installation's, which keeper runs in it, and what it is doing.
fn look(place: &Place, instance: &str) -> Result<(bool, Option<Process>, Inspection), LocalError> {
    let foreign = place
        .spec()
        .ok()
        .flatten()
        .is_some_and(|spec| spec.instance != instance);
    let keeper = lifecycle::is_running(place)?;
    Ok((foreign, keeper, lifecycle::inspect(place)?))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)??)
}
