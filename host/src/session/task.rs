//! The one task of a session: asks `state` what to do, does it (`steps`), and says what has become of it.
//!
//! It alone writes the session's record. A wish that comes while a step is under way ends that step: each can be done
//! again.

use super::handle::{Command, Handle, Outcome, Seen};
use super::launch::Layout;
use super::record::{Desired, Record};
use super::shared::{Shared, now};
use super::state::{self, Observed, Step, Wish};
use super::store::{self, SessionRow};
use super::view::{Offers, Permit, View, permit, view};
use super::{Activity, Health, SessionError, SessionId};
use crate::console::{Console, ConsoleError, ConsoleSettings, RunEnd};
use crate::db::DbError;
use crate::driver::BackendDriver;
use crate::event::{Along, EventBody, EventError, NewEvent};
use crate::keeper::{Keeper, KeeperError};
use async_trait::async_trait;
use berth_keeper_protocol::Status as KeeperStatus;
use berth_plugin_api::doc::{Filesystem, Inspection, PlaceState};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Wishes that wait for a task.
const WISHES: usize = 16;
/// The longest wait before a step that failed is tried again.
const LONGEST_HOLD: Duration = Duration::from_mins(1);
/// How long a session rests whose task panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);
const FIRST_HOLD: Duration = Duration::from_millis(100);

/// The task's own things.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) row: SessionRow,
    pub(super) observed: Observed,
    pub(super) console: Console,
    pub(super) driver: Option<Arc<dyn BackendDriver>>,
    pub(super) link: Option<Link>,
    /// How far long work has come, for people.
    pub(super) progress: Option<String>,
    /// The run that this very task started: its prompt cannot have been typed by an earlier server.
    pub(super) own_run: Option<String>,
    /// The engine was away since the place was last seen.
    pub(super) away: bool,
    /// What a removal in this task's life has done so far.
    pub(super) outcome: Outcome,
    waiting: Vec<(Wish, oneshot::Sender<Result<Outcome, SessionError>>)>,
    seen: watch::Sender<Arc<Seen>>,
    hold: Duration,
}

/// The connection to the keeper and what hangs on it.
pub(super) struct Link {
    pub(super) keeper: Keeper,
    status: watch::Receiver<Option<KeeperStatus>>,
    /// Reads the program's output; ends with it.
    reading: Option<Reading>,
    /// All of the output was read.
    read: Option<RunEnd>,
    cancel: CancellationToken,
    _follow: JoinSet<()>,
}

type Reading = JoinHandle<Result<RunEnd, ConsoleError>>;

/// What comes to the task from elsewhere.
struct Inbox {
    commands: mpsc::Receiver<Command>,
    hint: watch::Receiver<Option<Inspection>>,
    name: watch::Receiver<super::SessionName>,
    backend: Option<watch::Receiver<super::monitor::BackendState>>,
}

/// Why a step came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("the backend failed to {attempted}: {source}")]
    Backend {
        attempted: &'static str,
        source: Box<berth_plugin_api::Error>,
    },
    #[error("{0}")]
    Agent(Box<berth_plugin_api::Error>),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error(transparent)]
    Launch(#[from] super::launch::LaunchError),
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error("cannot {attempted}")]
    Io {
        attempted: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// Nothing was stored; what was done is done again.
    #[error("what has happened could not be stored")]
    Store(#[from] EventError),
    #[error("{0}")]
    Other(String),
}

enum Turn {
    Go,
    End,
}

/// Begins the session's task.
///
/// # Errors
/// The session's terminal cannot be opened.
pub(super) async fn spawn(
    shared: &Arc<Shared>,
    row: SessionRow,
) -> Result<Arc<Handle>, SessionError> {
    let folder = shared.folder(row.id);
    folder
        .make()
        .map_err(|error| SessionError::Internal(chain(&error)))?;
    let console = Console::open(ConsoleSettings::new(&folder.terminal))
        .await
        .map_err(|error| {
            SessionError::Internal(format!("the terminal cannot be opened: {error}"))
        })?;
    let driver = shared.drivers.backends.get(&row.backend).cloned();
    let offers = Offers {
        refresh: driver
            .as_ref()
            .is_some_and(|driver| driver.description().capabilities.refresh),
    };
    let (commands, inbox) = mpsc::channel(WISHES);
    let (hint_sender, hint) = watch::channel(None);
    let (name_sender, name) = watch::channel(row.metadata.name.clone());
    let mut observed = Observed::default();
    if driver.is_none() {
        observed.unreachable = Some("its plugin is not loaded".to_owned());
    }
    let (seen, seen_receiver) = watch::channel(Arc::new(Seen {
        record: row.record.clone(),
        observed: observed.clone(),
        view: row.told.clone(),
        offers,
        keeper: None,
    }));
    let handle = Arc::new(Handle {
        id: row.id,
        backend: row.backend.clone(),
        commands,
        seen: seen_receiver,
        console: console.clone(),
        hint: hint_sender,
        name: name_sender,
        typing: Arc::default(),
    });
    shared.registry.insert(handle.clone());
    let backend = shared
        .backends
        .get(&row.backend)
        .map(|watch| watch.state.clone());
    let inbox = Inbox {
        commands: inbox,
        hint,
        name,
        backend,
    };
    let task = Task {
        shared: shared.clone(),
        observed,
        console,
        driver,
        link: None,
        progress: None,
        own_run: None,
        away: row.record.machine != shared.machine,
        outcome: Outcome::default(),
        waiting: Vec::new(),
        seen,
        hold: FIRST_HOLD,
        row,
    };
    shared.tasks.spawn(look_after(shared.clone(), task, inbox));
    Ok(handle)
}

/// Runs the task. One that panics (a bug of ours) takes its session with it for a moment only.
fn look_after(shared: Arc<Shared>, task: Task, inbox: Inbox) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let id = task.id();
        let mut life = JoinSet::new();
        life.spawn(task.run(inbox));
        match life.join_next().await {
            Some(Err(error)) if error.is_panic() => {}
            _ => return,
        }
        tracing::error!(session.id = %id, "the session's task panicked; it begins anew");
        shared.registry.remove(id);
        tokio::select! {
            () = shared.cancel.cancelled() => return,
            () = tokio::time::sleep(AFTER_PANIC) => {}
        }
        let row = store::find(shared.db.read(), &id.into()).await;
        let begun = match row {
            Ok(Some(row)) => spawn(&shared, row).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = begun {
            tracing::error!(session.id = %id, error = %chain(&error), "the session cannot be opened");
        }
    })
}

impl Task {
    pub(super) fn id(&self) -> SessionId {
        self.row.id
    }

    pub(super) fn record(&self) -> &Record {
        &self.row.record
    }

    pub(super) fn layout(&self) -> Layout {
        let filesystem = self
            .driver
            .as_ref()
            .map_or(Filesystem::default(), |driver| {
                driver.description().capabilities.filesystem
            });
        Layout::new(filesystem, self.shared.folder(self.id()))
    }

    #[tracing::instrument(name = "session", skip_all, fields(session.id = %self.row.id, backend = %self.row.backend))]
    async fn run(mut self, mut inbox: Inbox) {
        self.look_at_backend(&inbox);
        let shutdown = self.shared.cancel.clone();
        loop {
            let step = state::next(self.record(), &self.observed, now());
            let turn = match step {
                Step::Rest(until) => {
                    self.settle();
                    self.rest(&mut inbox, until).await
                }
                step => {
                    let done = {
                        let work = self.perform(step);
                        tokio::pin!(work);
                        tokio::select! {
                            biased;
                            () = shutdown.cancelled() => Err(None),
                            command = inbox.commands.recv() => Err(command),
                            outcome = &mut work => Ok(outcome),
                        }
                    };
                    match done {
                        Ok(Ok(())) if step == Step::Forget => return,
                        Ok(Ok(())) => {
                            self.hold = FIRST_HOLD;
                            Turn::Go
                        }
                        Ok(Err(error)) => {
                            let wait = self.step_failed(step, error).await;
                            match wait {
                                Some(wait) => {
                                    let until = Timestamp::now().checked_add(wait).ok();
                                    self.rest(&mut inbox, until).await
                                }
                                None => Turn::Go,
                            }
                        }
                        Err(Some(command)) => {
                            self.hear(command).await;
                            Turn::Go
                        }
                        Err(None) => Turn::End,
                    }
                }
            };
            if matches!(turn, Turn::End) {
                self.let_go().await;
                return;
            }
        }
    }

    /// Waits until something happens, or that time comes.
    async fn rest(&mut self, inbox: &mut Inbox, until: Option<Timestamp>) -> Turn {
        let wake = until.map(|until| {
            let wait = until.duration_since(Timestamp::now());
            Instant::now() + Duration::try_from(wait).unwrap_or_default()
        });
        let shutdown = self.shared.cancel.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Turn::End,
            command = inbox.commands.recv() => match command {
                Some(command) => self.hear(command).await,
                None => return Turn::End,
            },
            event = link_event(&mut self.link) => match event {
                LinkEvent::Status(status) => self.keeper_said(status).await,
                LinkEvent::Lost => self.keeper_lost().await,
            },
            Ok(()) = inbox.hint.changed() => {
                let hint = inbox.hint.borrow_and_update().clone();
                if let Some(hint) = hint {
                    self.place_hint(hint).await;
                }
            }
            Ok(()) = inbox.name.changed() => {
                self.row.metadata.name = inbox.name.borrow_and_update().clone();
            }
            true = backend_changed(&mut inbox.backend) => {
                self.look_at_backend(inbox);
                self.publish().await;
            }
            () = wake_at(wake) => {}
        }
        Turn::Go
    }

    /// Takes over what the backend's monitor says.
    fn look_at_backend(&mut self, inbox: &Inbox) {
        let Some(backend) = &inbox.backend else {
            return;
        };
        let state = backend.borrow().clone();
        if state.looks == 0 {
            return;
        }
        if state.unreachable.is_some() {
            self.away = true;
        }
        self.observed.unreachable = state.unreachable;
    }

    /// A wish has come.
    async fn hear(&mut self, Command { wish, reply }: Command) {
        let answer = match permit(self.record(), &self.observed, self.offers(), wish) {
            Permit::Granted => {
                tracing::info!(?wish, "a wish was granted");
                let mut record = self.record().clone();
                record.wish(wish);
                match self.commit(record, Vec::new()).await {
                    Ok(()) => None,
                    Err(error) => Some(Err(SessionError::from(error))),
                }
            }
            Permit::Already => Some(Ok(Outcome::default())),
            Permit::NotOnOffer(action, available) => {
                Some(Err(SessionError::NotOnOffer { action, available }))
            }
            Permit::Refused(reason) => Some(Err(SessionError::Conflict(reason.to_owned()))),
            Permit::Unreachable => Some(Err(SessionError::BackendUnavailable {
                backend: self.row.backend.clone(),
                reason: self.observed.unreachable.clone().unwrap_or_default(),
            })),
        };
        if let Some(answer) = answer {
            // Who asked may have gone.
            reply.send(answer).ok();
            return;
        }
        let (joined, superseded) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(other, _)| std::mem::discriminant(other) == std::mem::discriminant(&wish));
        self.waiting = joined;
        if self.waiting.is_empty() {
            self.outcome = Outcome::default();
        }
        for (_, other) in superseded {
            let error = SessionError::Conflict(
                "another request to this session took this one's place".to_owned(),
            );
            other.send(Err(error)).ok();
        }
        match wish {
            // The rest is told by events.
            Wish::Start | Wish::Unarchive | Wish::Recreate { .. } => {
                reply.send(Ok(Outcome::default())).ok();
            }
            Wish::Stop | Wish::Archive | Wish::Cleanup | Wish::Delete { .. } => {
                self.waiting.push((wish, reply));
            }
        }
    }

    /// All is as wanted: whoever waits for that is answered.
    fn settle(&mut self) {
        let outcome = std::mem::take(&mut self.outcome);
        if self.waiting.is_empty() {
            return;
        }
        let unreachable = self.observed.unreachable.clone();
        for (_, reply) in std::mem::take(&mut self.waiting) {
            let answer = match &unreachable {
                Some(reason) if self.row.record.place == super::record::Place::Up => {
                    Err(SessionError::BackendUnavailable {
                        backend: self.row.backend.clone(),
                        reason: reason.clone(),
                    })
                }
                _ => Ok(outcome.clone()),
            };
            reply.send(answer).ok();
        }
    }

    /// The session is gone: whoever waits for that is answered.
    pub(super) fn settle_gone(&mut self) {
        for (_, reply) in std::mem::take(&mut self.waiting) {
            reply.send(Ok(self.outcome.clone())).ok();
        }
    }

    fn refuse_waiting(&mut self, error: &StepError) {
        for (wish, reply) in std::mem::take(&mut self.waiting) {
            let attempted = match wish {
                Wish::Stop => "stop the session",
                Wish::Archive => "archive the session",
                Wish::Cleanup => "clean the session up",
                _ => "delete the session",
            };
            let answer = match error {
                StepError::Backend { source, .. } => SessionError::Backend {
                    backend: self.row.backend.clone(),
                    attempted,
                    source: source.clone(),
                },
                StepError::Git(error) if error.kind() == crate::git::GitErrorKind::Conflict => {
                    SessionError::Conflict(error.to_string())
                }
                error => SessionError::Internal(format!("cannot {attempted}: {error}")),
            };
            reply.send(Err(answer)).ok();
        }
    }

    /// What follows from a step that came to nothing; how long to wait before the next.
    async fn step_failed(&mut self, step: Step, error: StepError) -> Option<Duration> {
        tracing::warn!(?step, error = %chain(&error), "a step came to nothing");
        let hold = self.hold;
        self.hold = (self.hold * 2).min(LONGEST_HOLD);
        if let StepError::Store(_) = error {
            self.refuse_waiting(&error);
            return Some(hold);
        }
        let forced = self.record().desired == (Desired::Deleted { force: true });
        if let StepError::Backend { source, .. } = &error
            && matches!(
                source.code,
                berth_plugin_api::Code::Unavailable | berth_plugin_api::Code::PluginLost
            )
            && !forced
        {
            self.observed.unreachable = Some(source.message.clone());
            self.away = true;
            if let Some(backend) = self.shared.backends.get(&self.row.backend) {
                backend.look_now();
            }
            self.publish().await;
            return None;
        }
        let mut record = self.record().clone();
        let backoff = self.shared.backoff.clone();
        match (step, record.desired) {
            (Step::DeletePlace, Desired::Deleted { force: true }) => {
                self.outcome.message = Some(format!(
                    "what the session has on its backend could not be removed ({error}); it is removed when the backend answers"
                ));
                record.leftover = Some(record.handle.clone());
                record.place_deleted(now());
            }
            (Step::RemoveTrees, Desired::Deleted { force: true }) => {
                self.outcome.message = Some(format!("work could not be saved: {error}"));
                record.trees = super::record::Trees::Absent;
            }
            (_, Desired::Deleted { .. }) => {
                self.refuse_waiting(&error);
                record.desired = Desired::Stopped;
            }
            (Step::Sync, _) => {
                // The commits stay in the worktree; the next stop tries again.
                record.unsynced = false;
                let warning = format!("branches could not be brought up to date: {error}");
                if !record.warnings.contains(&warning) {
                    record.warnings.push(warning);
                }
            }
            (Step::Connect, _) => {
                self.observed.connect_failures += 1;
                self.inspect().await;
                return self.connect_failed(&error, hold).await;
            }
            (Step::StopPlace | Step::DeletePlace, _) => {
                self.refuse_waiting(&error);
                return Some(hold);
            }
            (Step::StopProgram | Step::Collect | Step::TypePrompt, _) => {
                self.drop_link();
                return Some(hold);
            }
            (Step::StartProgram, _) if matches!(&error, StepError::Keeper(error) if error.is_lost()) =>
            {
                self.drop_link();
                return Some(hold);
            }
            (_, Desired::Running) => {
                if step == Step::StartPlace {
                    self.inspect().await;
                    record = self.record().clone();
                }
                record.fail(error_for_people(&error), now(), &backoff);
            }
            (_, Desired::Stopped | Desired::Archived | Desired::Cleaned) => {
                self.refuse_waiting(&error);
                return Some(hold);
            }
        }
        if let Err(error) = self.commit(record, Vec::new()).await {
            tracing::error!(error = %chain(&error), "a failure could not be stored");
            return Some(hold);
        }
        None
    }

    /// The keeper could not be reached: it may be starting still, or the place may have gone.
    async fn connect_failed(&mut self, error: &StepError, hold: Duration) -> Option<Duration> {
        let coming = self
            .record()
            .run
            .as_ref()
            .is_none_or(|run| run.state == super::record::RunState::Starting);
        let up = self.record().place == super::record::Place::Up;
        let silent = self.hold > self.shared.settings.limits.silence / 4;
        if up && coming && silent && self.record().desired == Desired::Running {
            let mut record = self.record().clone();
            record.fail(
                format!(
                    "the session's keeper does not answer: {}",
                    error_for_people(error)
                ),
                now(),
                &self.shared.backoff,
            );
            if let Err(error) = self.commit(record, Vec::new()).await {
                tracing::error!(error = %chain(&error), "a failure could not be stored");
            }
        }
        if up { Some(hold) } else { None }
    }

    /// Asks the backend how the place is, and draws the consequences.
    pub(super) async fn inspect(&mut self) {
        let Some(driver) = self.driver.clone() else {
            return;
        };
        let request = self.place_request();
        let call = crate::driver::Call::new(self.shared.settings.limits.inspect);
        match driver.inspect(call, &request).await {
            Ok(inspection) => self.place_seen(inspection).await,
            Err(error) => {
                tracing::warn!(%error, "the place cannot be inspected");
                if let Some(backend) = self.shared.backends.get(&self.row.backend) {
                    backend.look_now();
                }
            }
        }
    }

    async fn place_seen(&mut self, inspection: Inspection) {
        let mut record = self.record().clone();
        let follows = record.place_seen(&inspection, self.away, now(), &self.shared.backoff);
        let running = inspection.state == PlaceState::Running;
        self.observed.place = Some(inspection);
        if running {
            self.away = false;
        }
        if follows {
            self.drop_link();
            if let Some(ended) = record.ended() {
                let (code, message) = (ended.code, ended.message.clone());
                tracing::warn!(%message, "the session's place died");
                self.console.ended(code, Some(message)).await;
                self.save_console().await;
            }
            self.away = false;
        }
        if let Err(error) = self.commit(record, Vec::new()).await {
            tracing::error!(error = %chain(&error), "what became of the place could not be stored");
        }
    }

    /// The monitor heard something of the place. A death is believed only when the backend says it once more.
    async fn place_hint(&mut self, hint: Inspection) {
        self.look_at_trees().await;
        let believed = match hint.state {
            PlaceState::Running | PlaceState::Pending => true,
            // Nothing follows from it where nothing is to run.
            PlaceState::Exited | PlaceState::Created => {
                self.record().place == super::record::Place::Down
            }
            PlaceState::Missing | PlaceState::DataLost => false,
        };
        if believed {
            self.place_seen(hint).await;
        } else if self.record().place != super::record::Place::Absent {
            self.inspect().await;
        }
    }

    /// Whether the working trees are still there.
    pub(super) async fn look_at_trees(&mut self) {
        let missing = self.record().trees == super::record::Trees::Made
            && self
                .record()
                .repositories
                .iter()
                .any(|made| made.tree.is_missing());
        if missing != self.observed.trees_missing {
            self.observed.trees_missing = missing;
            self.publish().await;
        }
    }

    async fn keeper_said(&mut self, status: KeeperStatus) {
        self.observed.keeper = Some(status.program);
        self.observed.keeper_run = status.run_id;
        self.publish().await;
    }

    async fn keeper_lost(&mut self) {
        tracing::debug!("the connection to the keeper is lost");
        self.drop_link();
        self.inspect().await;
    }

    /// Uses this connection from now on.
    pub(super) async fn use_keeper(&mut self, keeper: Keeper) -> Result<(), StepError> {
        let mut changes = keeper.changes().await?;
        let first = match changes.next().await {
            Some(first) => first?,
            None => {
                return Err(StepError::Other(
                    "the keeper ended as soon as it was asked".to_owned(),
                ));
            }
        };
        let (sender, mut status) = watch::channel(Some(first.clone()));
        status.borrow_and_update();
        let mut follow = JoinSet::new();
        follow.spawn(async move {
            while let Some(Ok(status)) = changes.next().await {
                sender.send_replace(Some(status));
            }
            sender.send_replace(None);
        });
        self.drop_link();
        self.observed.connect_failures = 0;
        self.away = false;
        self.observed.keeper = Some(first.program);
        self.observed.keeper_run = first.run_id;
        self.link = Some(Link {
            keeper,
            status,
            reading: None,
            read: None,
            cancel: self.shared.cancel.child_token(),
            _follow: follow,
        });
        self.publish().await;
        Ok(())
    }

    /// Begins to read the program's output.
    pub(super) async fn read_output(&mut self) {
        let first_offset = self.record().run.as_ref().map(|run| run.first_offset);
        let Some(link) = &mut self.link else { return };
        if link.reading.is_some() || link.read.is_some() {
            return;
        }
        if first_offset.is_some_and(|first| self.console.next_offset() <= first) {
            self.console.restarted().await;
        }
        let console = self.console.clone();
        let source = Arc::new(link.keeper.clone());
        let cancel = link.cancel.clone();
        link.reading = Some(
            self.shared
                .tasks
                .spawn(async move { console.run(source, cancel).await }),
        );
    }

    /// Waits until all output of the ended program was read. False: reading broke off.
    pub(super) async fn output_read(&mut self) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        if link.read.is_none() && link.reading.is_some() {
            let end = finished(&mut link.reading).await;
            link.reading = None;
            link.read = end.filter(|end| *end == RunEnd::ProgramEnded);
        }
        link.read.is_some()
    }

    pub(super) fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            link.cancel.cancel();
        }
        self.observed.keeper = None;
        self.observed.keeper_run.clear();
    }

    pub(super) async fn save_console(&self) {
        if let Err(error) = self.console.save().await {
            tracing::error!(error = %chain(&error), "the terminal could not be saved");
        }
    }

    /// The server ends; the session goes on.
    async fn let_go(mut self) {
        for (_, reply) in std::mem::take(&mut self.waiting) {
            reply.send(Err(SessionError::ShuttingDown)).ok();
        }
        if let Some(mut link) = self.link.take() {
            link.cancel.cancel();
            if let Some(reading) = link.reading.take() {
                // However it ended, the terminal is saved next.
                reading.await.ok();
            }
        }
        self.save_console().await;
    }

    fn offers(&self) -> Offers {
        self.seen.borrow().offers
    }

    fn view(&self) -> View {
        let mut view = view(self.record(), &self.observed, Activity::Unknown);
        if view.health == Health::Pending && view.message.is_none() {
            view.message.clone_from(&self.progress);
        }
        view
    }

    /// Stores what has become of the session, together with events, and tells it.
    pub(super) async fn commit(
        &mut self,
        record: Record,
        mut events: Vec<NewEvent>,
    ) -> Result<(), EventError> {
        let before = std::mem::replace(&mut self.row.record, record);
        let view = self.view();
        let changed = view != self.row.told;
        if !changed && events.is_empty() && before == self.row.record {
            self.tell();
            return Ok(());
        }
        if changed {
            tracing::info!(status = %view.status, health = ?view.health, message = view.message, "session changed");
            events.push(status_event(&view));
        }
        let told = std::mem::replace(&mut self.row.told, view.clone());
        let save = Save {
            id: self.id(),
            record: self.row.record.clone(),
            view,
            at: now(),
        };
        let events_log = self.shared.events.clone();
        if let Err(error) = events_log.append_along(self.id(), events, save).await {
            self.row.record = before;
            self.row.told = told;
            return Err(error);
        }
        self.tell();
        Ok(())
    }

    /// Tells what is seen now, where it differs from what was told.
    pub(super) async fn publish(&mut self) {
        let record = self.record().clone();
        if let Err(error) = self.commit(record, Vec::new()).await {
            tracing::error!(error = %chain(&error), "a change could not be stored; it is told with the next one");
        }
    }

    fn tell(&self) {
        let seen = Seen {
            record: self.row.record.clone(),
            observed: self.observed.clone(),
            view: self.row.told.clone(),
            offers: self.offers(),
            keeper: self.link.as_ref().map(|link| link.keeper.clone()),
        };
        self.seen.send_replace(Arc::new(seen));
    }
}

/// The event that tells a view.
pub(super) fn status_event(view: &View) -> NewEvent {
    EventBody::SessionStatus {
        status: view.status,
        activity: view.activity,
        health: view.health,
        message: view.message.clone(),
    }
    .into()
}

/// Stores a record together with its events.
struct Save {
    id: SessionId,
    record: Record,
    view: View,
    at: Timestamp,
}

#[async_trait]
impl Along for Save {
    async fn apply(self: Box<Self>, db: &mut SqliteConnection) -> Result<(), DbError> {
        store::save(db, self.id, &self.record, &self.view, self.at).await
    }
}

enum LinkEvent {
    Status(KeeperStatus),
    Lost,
}

/// What the connection to the keeper says next. Waits for ever without a connection.
async fn link_event(link: &mut Option<Link>) -> LinkEvent {
    let Some(link) = link else {
        return std::future::pending().await;
    };
    loop {
        let Link {
            status,
            reading,
            read,
            ..
        } = link;
        tokio::select! {
            changed = status.changed() => {
                let status = changed.ok().and_then(|()| status.borrow_and_update().clone());
                return status.map_or(LinkEvent::Lost, LinkEvent::Status);
            }
            end = finished(reading), if reading.is_some() => {
                *reading = None;
                if end == Some(RunEnd::ProgramEnded) {
                    *read = end;
                } else {
                    return LinkEvent::Lost;
                }
            }
        }
    }
}

/// How reading ended; `None` when it broke off.
async fn finished(reading: &mut Option<Reading>) -> Option<RunEnd> {
    match reading {
        None => std::future::pending().await,
        Some(reading) => match reading.await {
            Ok(Ok(end)) => Some(end),
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "reading the terminal broke off");
                None
            }
            Err(_) => None,
        },
    }
}

async fn backend_changed(
    backend: &mut Option<watch::Receiver<super::monitor::BackendState>>,
) -> bool {
    match backend {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

async fn wake_at(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What a failure says to the session's user.
fn error_for_people(error: &StepError) -> String {
    match error {
        StepError::Backend { source, .. } => source.to_string(),
        error => chain(error),
    }
}

/// An error and all that it stands on.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
