//! What callers do with sessions.

use super::create::{self, Checked, Naming};
use super::handle::{Handle, Registry};
use super::launch;
use super::monitor::{BackendState, Monitor};
use super::record::{Place, Record, Trees};
use super::settings::SessionSettings;
use super::shared::{Shared, now};
use super::state::Wish;
use super::steps::said;
use super::store::{self, SessionRow};
use super::task::{self, status_event};
use super::view::{View, actions, permit};
use super::{
    Accepted, Action, Activity, ChatRow, Created, EnvShown, Health, HealthDetails, HealthReport,
    ListFilter, Metadata, MetadataChange, NewSession, Page, Reconciliation, RecreatePreservation,
    Recreation, Removal, Result, Role, Session, SessionError, SessionId, SessionKey, SessionName,
    SessionRepository, SessionSummary, Status, SyncedBranch,
};
use crate::console::Console;
use crate::db::{DataFolder, Database, DbError};
use crate::driver::Drivers;
use crate::event::{Along, EventKind, EventLog, EventPage, Subscription};
use crate::files::Roots;
use crate::git::{Diff, DiffLimits, Git, GitError, GitErrorKind};
use crate::keeper::Keeper;
use async_trait::async_trait;
use berth_plugin_api::doc::DeliverRequest;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an `Idempotency-Key` holds.
const KEY_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Uncommitted files that a refusal names.
const SHOWN: usize = 50;
/// Sessions that are opened at once when the server starts.
const OPENED_AT_ONCE: usize = 32;

/// All sessions of this server. A cheap clone of one thing; every operation may be called from anywhere at once.
#[derive(Debug, Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

/// What sessions stand on.
#[derive(Debug)]
pub struct SessionParts {
    pub db: Database,
    pub data: DataFolder,
    pub events: EventLog,
    pub drivers: Drivers,
    pub git: Git,
    pub settings: SessionSettings,
}

/// A subscription to all sessions, and what of the caller's map could not be heeded.
#[derive(Debug)]
pub struct AllSubscription {
    pub subscription: Subscription,
    /// Entries of the map that were passed over: an unknown session, or a number beyond the newest event.
    pub refused: Vec<(String, SessionError)>,
}

impl Sessions {
    /// Takes over the sessions that are on the books, and begins to look after backends. Answers once each session has
    /// its task; reaching what runs goes on behind that. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open(parts: SessionParts) -> Result<Self> {
        let SessionParts {
            db,
            data,
            events,
            drivers,
            git,
            settings,
        } = parts;
        let settings = Arc::new(settings);
        let registry = Arc::new(Registry::default());
        let tasks = TaskTracker::new();
        let cancel = CancellationToken::new();
        let mut backends = BTreeMap::new();
        let mut monitors = Vec::new();
        for (name, driver) in &drivers.backends {
            let (monitor, watch) = Monitor::new(
                driver.clone(),
                data.instance().to_owned(),
                db.clone(),
                registry.clone(),
                settings.clone(),
            );
            monitors.push(monitor);
            backends.insert(name.clone(), watch);
        }
        let shared = Arc::new(Shared {
            backoff: settings
                .backoff
                .iter()
                .filter_map(|wait| SignedDuration::try_from(*wait).ok())
                .collect(),
            roots: Roots::new(&settings.roots),
            machine: machine(),
            db,
            data,
            events,
            drivers,
            git,
            settings,
            registry,
            backends,
            tasks,
            cancel,
            naming: tokio::sync::Mutex::default(),
        });
        let sessions = Self { shared };
        sessions.take_over().await?;
        // After that, so that no session's place is taken for a stray.
        for monitor in monitors {
            let cancel = sessions.shared.cancel.clone();
            sessions.shared.tasks.spawn(monitor.run(cancel));
        }
        Ok(sessions)
    }

    /// Gives each session on the books its task, and removes folders that no session claims.
    async fn take_over(&self) -> Result<()> {
        let everything = ListFilter {
            include_archived: true,
            ..ListFilter::default()
        };
        let rows = store::list(self.shared.db.read(), &everything, None, None).await?;
        let known: Vec<SessionId> = rows.iter().map(|row| row.id).collect();
        self.remove_stray_folders(&known).await;
        let count = rows.len();
        let mut opening = JoinSet::new();
        for row in rows {
            if opening.len() >= OPENED_AT_ONCE {
                opening.join_next().await;
            }
            let shared = self.shared.clone();
            opening.spawn(async move {
                let id = row.id;
                if let Err(error) = task::spawn(&shared, row).await {
                    tracing::error!(session.id = %id, error = %task::chain(&error), "the session cannot be opened");
                }
            });
        }
        while opening.join_next().await.is_some() {}
        if count > 0 {
            tracing::info!(count, "took over the sessions on the books");
        }
        Ok(())
    }

    /// A session's row is stored before its folder is made: a folder without one is of a session that is gone.
    async fn remove_stray_folders(&self, known: &[SessionId]) {
        let folder = self.shared.data.sessions();
        let Ok(mut entries) = tokio::fs::read_dir(&folder).await else {
            return;
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let name = entry.file_name();
            let claimed = name
                .to_str()
                .and_then(|name| name.parse::<SessionId>().ok())
                .is_none_or(|id| known.contains(&id));
            if claimed {
                continue;
            }
            tracing::info!(folder = %entry.path().display(), "removing a folder that no session claims");
            if let Err(error) = super::folder::remove(&entry.path()).await {
                tracing::warn!(%error, folder = %entry.path().display(), "the folder stays until the next start");
            }
        }
    }

    /// Lets go of all sessions, which go on running. Everything that is stored by then is found by the next start.
    pub async fn close(&self, grace: Duration) {
        self.shared.cancel.cancel();
        self.shared.tasks.close();
        if timeout(grace, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("sessions are still being let go after the grace period");
        }
    }

    /// Makes a session and answers at once, in state `starting`; the work goes on behind it.
    ///
    /// # Errors
    /// The request breaks a rule of CONTRACT section 3; nothing was stored then.
    #[tracing::instrument(skip_all)]
    pub async fn create(&self, new: NewSession, idempotency_key: Option<&str>) -> Result<Created> {
        let hash = body_hash(&new)?;
        if let Some(key) = idempotency_key
            && let Some(session) = self.created_before(key, &hash).await?
        {
            return Ok(Created {
                session,
                replayed: true,
            });
        }
        if self.shared.cancel.is_cancelled() {
            return Err(SessionError::ShuttingDown);
        }
        let checked = create::check(&self.shared, &new).await?;
        let naming = self.shared.naming.lock().await;
        // Another request with the same key may have been checked at the same time.
        if let Some(key) = idempotency_key
            && let Some(session) = self.created_before(key, &hash).await?
        {
            return Ok(Created {
                session,
                replayed: true,
            });
        }
        let (row, secrets) = self.new_row(new, checked).await?;
        let folder = self.shared.folder(row.id);
        let insert = Insert {
            row: row.clone(),
            key: idempotency_key.map(|key| (key.to_owned(), hash)),
        };
        let stored = self
            .shared
            .events
            .append_along(row.id, vec![status_event(&row.told)], insert)
            .await;
        drop(naming);
        match stored {
            Ok(_) => {}
            Err(crate::event::EventError::Database(error)) if error.is_unique_violation() => {
                return Err(SessionError::NameTaken(row.metadata.name));
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(session.id = %row.id, name = %row.metadata.name, backend = %row.backend, agent = %row.agent, "session asked for");
        folder
            .make()
            .map_err(|error| SessionError::Internal(task::chain(&error)))?;
        launch::write_secrets(&folder, &secrets)
            .await
            .map_err(|error| SessionError::Internal(task::chain(&error)))?;
        let session = self.session(&row).await?;
        task::spawn(&self.shared, row).await?;
        Ok(Created {
            session,
            replayed: false,
        })
    }

    async fn created_before(&self, key: &str, hash: &str) -> Result<Option<Session>> {
        let since = now() - KEY_LIFE;
        let found = store::find_creation_key(self.shared.db.read(), key, since).await?;
        match found {
            None => Ok(None),
            Some((other, _)) if other != hash => Err(SessionError::IdempotencyMismatch),
            Some((_, id)) => self.get(&id.into()).await.map(Some),
        }
    }

    async fn new_row(
        &self,
        new: NewSession,
        checked: Checked,
    ) -> Result<(SessionRow, BTreeMap<String, String>)> {
        let db = self.shared.db.read();
        let name = match checked.name {
            Naming::Given(name) => {
                if store::name_exists(db, &name).await? {
                    return Err(SessionError::NameTaken(name));
                }
                name
            }
            Naming::Made(name) => {
                let mut number = 1;
                loop {
                    let candidate = create::numbered(&name, number);
                    if !store::name_exists(db, &candidate).await? {
                        break candidate;
                    }
                    number += 1;
                }
            }
        };
        let at = now();
        let row = SessionRow {
            id: SessionId::generate(),
            metadata: Metadata {
                name,
                title: new.title,
                description: new.description,
                tags: new.tags,
            },
            backend: checked.backend,
            agent: checked.agent,
            prompt: checked.prompt,
            spec: checked.spec,
            record: Record::new(&self.shared.machine),
            told: View {
                status: Status::Starting,
                activity: Activity::Unknown,
                health: Health::Pending,
                message: None,
            },
            created_at: at,
            updated_at: at,
        };
        Ok((row, checked.secrets))
    }

    /// # Errors
    /// There is none.
    pub async fn get(&self, key: &SessionKey) -> Result<Session> {
        let row = self.row(key).await?;
        self.session(&row).await
    }

    async fn row(&self, key: &SessionKey) -> Result<SessionRow> {
        store::find(self.shared.db.read(), key)
            .await?
            .ok_or_else(|| SessionError::NotFound(key.clone()))
    }

    /// The id behind a key.
    ///
    /// # Errors
    /// There is none.
    pub async fn resolve(&self, key: &SessionKey) -> Result<SessionId> {
        Ok(self.row(key).await?.id)
    }

    async fn handle(&self, key: &SessionKey) -> Result<Arc<Handle>> {
        let id = match key {
            SessionKey::Id(id) => *id,
            key => self.resolve(key).await?,
        };
        self.shared
            .registry
            .get(id)
            .ok_or_else(|| SessionError::NotFound(key.clone()))
    }

    /// # Errors
    /// `limit` or `cursor` is wrong.
    pub async fn list(&self, filter: &ListFilter) -> Result<Page> {
        if filter
            .limit
            .is_some_and(|limit| !(1..=1_000).contains(&limit))
        {
            return Err(SessionError::invalid("limit", "must be 1 to 1000"));
        }
        let after = filter
            .cursor
            .as_deref()
            .map(str::parse::<SessionId>)
            .transpose()
            .map_err(|_| SessionError::invalid("cursor", "is none that a list has given"))?;
        // One more than asked for tells whether there is more.
        let limit = filter.limit.map(|limit| limit + 1);
        let mut rows = store::list(self.shared.db.read(), filter, after, limit).await?;
        let mut next_cursor = None;
        if let Some(limit) = filter.limit
            && rows.len() > limit as usize
        {
            rows.truncate(limit as usize);
            next_cursor = rows.last().map(|row| row.id.to_string());
        }
        Ok(Page {
            sessions: rows.iter().map(summary).collect(),
            next_cursor,
        })
    }

    /// How many sessions have each status.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count_by_status(&self) -> Result<Vec<(String, i64)>> {
        Ok(store::count_by_status(self.shared.db.read()).await?)
    }

    /// # Errors
    /// The name is taken or breaks the rule.
    pub async fn update_metadata(
        &self,
        key: &SessionKey,
        change: MetadataChange,
    ) -> Result<Metadata> {
        let new_name = change
            .name
            .as_deref()
            .map(SessionName::parse)
            .transpose()
            .map_err(|error| SessionError::invalid("name", error.to_string()))?;
        let naming = self.shared.naming.lock().await;
        let row = self.row(key).await?;
        let mut metadata = row.metadata.clone();
        if let Some(name) = new_name {
            if name != metadata.name && store::name_exists(self.shared.db.read(), &name).await? {
                return Err(SessionError::NameTaken(name));
            }
            metadata.name = name;
        }
        if let Some(title) = change.title {
            metadata.title = title;
        }
        if let Some(description) = change.description {
            metadata.description = description;
        }
        if let Some(tags) = change.tags {
            metadata.tags = tags;
        }
        create::check_metadata(
            metadata.title.as_deref(),
            metadata.description.as_deref(),
            &metadata.tags,
        )?;
        let save = SaveMetadata {
            id: row.id,
            metadata: metadata.clone(),
        };
        self.shared
            .events
            .append_along(row.id, Vec::new(), save)
            .await?;
        drop(naming);
        if let Some(handle) = self.shared.registry.get(row.id) {
            handle.name.send_replace(metadata.name.clone());
        }
        Ok(metadata)
    }

    /// Starts a stopped session again; a running one is a success.
    ///
    /// # Errors
    /// `start` is not on offer.
    pub async fn start(&self, key: &SessionKey) -> Result<Session> {
        self.wish(key, Wish::Start).await
    }

    /// Ends the session's program and keeps everything; a stopped one is a success. Answers once it has ended.
    ///
    /// # Errors
    /// The backend failed to.
    pub async fn stop(&self, key: &SessionKey) -> Result<Session> {
        self.wish(key, Wish::Stop).await
    }

    /// # Errors
    /// The backend failed to take away what runs.
    pub async fn archive(&self, key: &SessionKey) -> Result<Session> {
        self.wish(key, Wish::Archive).await
    }

    /// # Errors
    /// The state does not allow it.
    pub async fn unarchive(&self, key: &SessionKey) -> Result<Session> {
        self.wish(key, Wish::Unarchive).await
    }

    async fn wish(&self, key: &SessionKey, wish: Wish) -> Result<Session> {
        let handle = self.handle(key).await?;
        handle.ask(wish).await?;
        self.get(&handle.id.into()).await
    }

    /// Removes a session. Answers once nothing of it is left.
    ///
    /// # Errors
    /// Without `force`: uncommitted changes (the message lists them), or the backend failed to.
    pub async fn delete(&self, key: &SessionKey, force: bool) -> Result<Removal> {
        let handle = self.handle(key).await?;
        if !force {
            self.refuse_uncommitted(&handle).await?;
        }
        let outcome = handle.ask(Wish::Delete { force }).await?;
        Ok(Removal {
            rescued: outcome.rescued,
            message: outcome.message,
        })
    }

    async fn refuse_uncommitted(&self, handle: &Handle) -> Result<()> {
        let seen = handle.seen();
        let mut files = Vec::new();
        for made in &seen.record.repositories {
            if seen.record.trees != Trees::Made || made.tree.is_missing() {
                continue;
            }
            let changed = self
                .shared
                .git
                .uncommitted(&made.tree)
                .await
                .map_err(|error| git_error(&error))?;
            let many = seen.record.repositories.len() > 1;
            files.extend(changed.into_iter().map(|file| {
                if many {
                    format!("{}/{file}", made.mount_name)
                } else {
                    file
                }
            }));
        }
        if files.is_empty() {
            return Ok(());
        }
        let more = files.len().saturating_sub(SHOWN);
        let mut list = files
            .iter()
            .take(SHOWN)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if more > 0 {
            // Writing to a string cannot fail.
            write!(list, " and {more} more").ok();
        }
        Err(SessionError::Conflict(format!(
            "the session has uncommitted changes: {list}. Commit them, or delete with force=true, which keeps them under refs/berth/rescue"
        )))
    }

    /// Puts another place where the session's is; `fresh`: worktree and conversation begin anew too.
    ///
    /// # Errors
    /// The action is not on offer.
    pub async fn recreate(&self, key: &SessionKey, fresh: bool) -> Result<Recreation> {
        let handle = self.handle(key).await?;
        let wish = Wish::Recreate { fresh };
        let seen = handle.seen();
        let action = if fresh {
            Action::RecreateFresh
        } else {
            Action::Recreate
        };
        let mut rescued = Vec::new();
        let granted =
            permit(&seen.record, &seen.observed, seen.offers, wish) == super::view::Permit::Granted;
        let lost = seen.observed.trees_missing;
        if fresh && granted && !lost && seen.record.trees == Trees::Made {
            // The answer names the refs; what is changed from now on is saved when the tree is set back.
            let row = self.row(&handle.id.into()).await?;
            for made in &seen.record.repositories {
                self.shared
                    .git
                    .sync(&made.tree)
                    .await
                    .map_err(|error| git_error(&error))?;
                let rescue = self
                    .shared
                    .git
                    .rescue(&made.tree, row.metadata.name.as_str())
                    .await
                    .map_err(|error| git_error(&error))?;
                rescued.extend(rescue.references);
            }
        }
        handle.ask(wish).await?;
        Ok(Recreation {
            action,
            data_preservation: RecreatePreservation {
                git_state: true,
                chat_history: true,
                uncommitted_changes: !fresh && !lost,
            },
            rescued,
        })
    }

    /// Removes what the session has but its record, its events and its branches; answers with what was removed.
    ///
    /// # Errors
    /// The action is not on offer.
    pub async fn cleanup(&self, key: &SessionKey) -> Result<(Vec<String>, Removal)> {
        let handle = self.handle(key).await?;
        let outcome = handle.ask(Wish::Cleanup).await?;
        let removal = Removal {
            rescued: outcome.rescued,
            message: outcome.message,
        };
        Ok((outcome.removed, removal))
    }

    /// Brings the session's branches in the user's repositories up to its commits.
    ///
    /// # Errors
    /// A worktree is gone or damaged.
    pub async fn sync(&self, key: &SessionKey) -> Result<Vec<SyncedBranch>> {
        let handle = self.handle(key).await?;
        let seen = handle.seen();
        if seen.record.trees != Trees::Made {
            return Err(SessionError::Conflict(
                "the session has no worktree now".to_owned(),
            ));
        }
        let row = self.row(&handle.id.into()).await?;
        let mut branches = Vec::new();
        for (index, made) in seen.record.repositories.iter().enumerate() {
            let mut branch = super::steps::sync_tree(&self.shared.git, made)
                .await
                .map_err(|error| git_error(&error))?;
            if let Some(asked) = row.spec.repositories.get(index) {
                branch.path.clone_from(&asked.path);
            }
            branches.push(branch);
        }
        Ok(branches)
    }

    /// The worktrees against their bases, by mount name, in the order of the repositories.
    ///
    /// # Errors
    /// A worktree is gone.
    pub async fn diff(&self, key: &SessionKey, limits: DiffLimits) -> Result<Vec<(String, Diff)>> {
        let handle = self.handle(key).await?;
        let seen = handle.seen();
        if seen.record.trees != Trees::Made {
            return Err(SessionError::Conflict(
                "the session has no worktree now".to_owned(),
            ));
        }
        let mut diffs = Vec::new();
        for made in &seen.record.repositories {
            let diff = self
                .shared
                .git
                .diff(&made.tree, limits)
                .await
                .map_err(|error| git_error(&error))?;
            diffs.push((made.mount_name.clone(), diff));
        }
        Ok(diffs)
    }

    /// # Errors
    /// There is no such session.
    pub async fn health(&self, key: &SessionKey) -> Result<HealthReport> {
        let handle = self.handle(key).await?;
        let seen = handle.seen();
        let record = &seen.record;
        let place = seen
            .observed
            .place
            .as_ref()
            .filter(|_| record.place != Place::Absent);
        let ended = record.ended();
        let data_preservation = actions(record, seen.view.health, seen.offers);
        let wrong = !matches!(
            seen.view.health,
            Health::Healthy | Health::Pending | Health::Stopped
        );
        Ok(HealthReport {
            session_id: handle.id,
            health: seen.view.health,
            details: HealthDetails {
                backend: handle.backend.clone(),
                container_status: place.map(|place| {
                    place
                        .engine_status
                        .clone()
                        .unwrap_or_else(|| word(place.state))
                }),
                exit_code: ended
                    .and_then(|ended| ended.code)
                    .or_else(|| place.and_then(|place| place.exit_code)),
                error_message: seen.view.message.clone().filter(|_| wrong),
            },
            available_actions: data_preservation.keys().copied().collect(),
            data_preservation,
            reconciliation: Reconciliation {
                attempts: record.retry.attempts,
                last_attempt: record.retry.last_attempt,
                next_attempt: record.retry.next_attempt,
                error: record.retry.error.clone(),
            },
            checked_at: now(),
        })
    }

    /// Says something to the agent; answers once its terminal has taken the bytes. Once called, dropping the future
    /// does not take the message back.
    ///
    /// # Errors
    /// The session cannot take it now.
    pub async fn send_message(&self, key: &SessionKey, content: &str) -> Result<Accepted> {
        let handle = self.handle(key).await?;
        if content.is_empty() {
            return Err(SessionError::invalid("content", "must not be empty"));
        }
        let sessions = self.clone();
        let content = content.to_owned();
        self.shared
            .tasks
            .spawn(async move { sessions.deliver(&handle, &content).await })
            .await
            .map_err(|error| SessionError::Internal(error.to_string()))?
    }

    async fn deliver(&self, handle: &Handle, content: &str) -> Result<Accepted> {
        let _typing = handle.typing.lock().await;
        let row = self.row(&handle.id.into()).await?;
        let seen = handle
            .connected(row.told.health, self.shared.settings.limits.input)
            .await;
        let cannot = |why: &str| {
            SessionError::Conflict(format!("the session cannot take a message now: {why}"))
        };
        if seen.view.health != Health::Healthy {
            let status = seen.view.status;
            return Err(cannot(&format!("it is {status}")));
        }
        let Some(keeper) = &seen.keeper else {
            return Err(cannot("its terminal is not connected"));
        };
        let agent = self.shared.agent(&row.agent)?;
        let driver = self.shared.backend(&row.backend)?;
        let layout = launch::Layout::new(
            driver.description().capabilities.filesystem,
            self.shared.folder(row.id),
        );
        let architecture = match self.shared.backends.get(&row.backend) {
            Some(backend) => backend.known().await.probe.architecture,
            None => String::new(),
        };
        let request = DeliverRequest {
            context: launch::agent_context(&self.shared, &row, &layout, &architecture),
            content: content.to_owned(),
        };
        let delivery = agent
            .deliver(&request)
            .await
            .map_err(|error| SessionError::invalid("content", error.message))?;
        let limit = self.shared.settings.limits.input;
        match timeout(limit, launch::type_keys(keeper, &delivery.typed)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(cannot(&error.to_string())),
            Err(_) => return Err(cannot("its program does not read what is typed")),
        }
        if !agent.description().capabilities.events {
            self.shared
                .events
                .append(handle.id, vec![said(Role::User, content)])
                .await?;
        }
        Ok(Accepted { held: false })
    }

    /// The session's terminal.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn console(&self, key: &SessionKey) -> Result<Console> {
        Ok(self.handle(key).await?.console.clone())
    }

    /// The session's keeper, for files and programs beside the main one.
    ///
    /// # Errors
    /// There is no such session, or it does not run now.
    pub async fn keeper(&self, key: &SessionKey) -> Result<Keeper> {
        let seen = self.handle(key).await?.seen();
        seen.keeper.clone().ok_or_else(|| {
            SessionError::Conflict(format!("the session is {}, not running", seen.view.status))
        })
    }

    /// The terminal's history as plain text.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn logs(&self, key: &SessionKey) -> Result<String> {
        self.handle(key)
            .await?
            .console
            .history_text()
            .await
            .map_err(|error| SessionError::Internal(task::chain(&error)))
    }

    /// Stored events, oldest first.
    ///
    /// # Errors
    /// There is no such session, or `after` is beyond its newest event.
    pub async fn events(&self, key: &SessionKey, after: u64, limit: usize) -> Result<EventPage> {
        let id = self.resolve(key).await?;
        Ok(self.shared.events.page(id, after, limit).await?)
    }

    /// The session's events after `after`, then live; without it only those to come. A session that was deleted within
    /// the last day is still found by its id when `after` is given, so that a subscriber who was away hears of its end.
    ///
    /// # Errors
    /// There is no such session, or `after` is beyond its newest event.
    pub async fn subscribe(&self, key: &SessionKey, after: Option<u64>) -> Result<Subscription> {
        let id = match self.resolve(key).await {
            Ok(id) => id,
            Err(error @ SessionError::NotFound(_)) => match key {
                SessionKey::Id(id) if after.is_some() && self.was_deleted(*id).await? => *id,
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        };
        Ok(self.shared.events.subscribe(id, after).await?)
    }

    async fn was_deleted(&self, id: SessionId) -> Result<bool> {
        Ok(store::is_deleted(self.shared.db.read(), id).await?)
    }

    /// Every session's events, those made later included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn subscribe_all(&self, after: BTreeMap<String, u64>) -> Result<AllSubscription> {
        let mut known = Vec::new();
        let mut refused = Vec::new();
        for (text, after) in after {
            let key = SessionKey::parse(&text);
            match self.resolve(&key).await {
                Ok(id) => known.push((id, after, text)),
                Err(error @ SessionError::NotFound(_)) => match key {
                    SessionKey::Id(id) if self.was_deleted(id).await? => {
                        known.push((id, after, text));
                    }
                    _ => refused.push((text, error)),
                },
                Err(error) => return Err(error),
            }
        }
        let asked = known.iter().map(|(id, after, _)| (*id, *after)).collect();
        let (subscription, beyond) = self.shared.events.subscribe_all(asked).await;
        for (id, error) in beyond {
            let text = known
                .iter()
                .find(|(known, _, _)| *known == id)
                .map_or_else(|| id.to_string(), |(_, _, text)| text.clone());
            refused.push((text, error.into()));
        }
        Ok(AllSubscription {
            subscription,
            refused,
        })
    }

    /// What is known of a backend; `None`: it is not loaded. Waits for the first look where none was had.
    pub async fn backend_state(&self, backend: &str) -> Option<BackendState> {
        let watch = self.shared.backends.get(backend)?;
        Some(watch.known().await)
    }

    /// The backend of sessions that name none.
    ///
    /// # Errors
    /// It is to be chosen, and none can be used.
    pub async fn default_backend(&self) -> Result<String> {
        create::default_backend(&self.shared).await
    }

    async fn session(&self, row: &SessionRow) -> Result<Session> {
        let chat = self
            .shared
            .events
            .of_kind(row.id, EventKind::ChatMessage)
            .await?;
        let mut chat_history = Vec::with_capacity(chat.len());
        for event in chat {
            let stored: StoredMessage = serde_json::from_slice(&event.json)
                .map_err(|error| DbError::Corrupt(format!("event.json: {error}")))?;
            chat_history.push(ChatRow {
                seq: event.seq,
                role: stored.message.role,
                content: stored.message.content,
                created_at: stored.at,
            });
        }
        let repositories = row
            .spec
            .repositories
            .iter()
            .map(|asked| {
                let made = row
                    .record
                    .repositories
                    .iter()
                    .find(|made| made.mount_name == asked.mount_name);
                let worktree = made
                    .filter(|_| row.record.trees == Trees::Made)
                    .map(|made| made.tree.work.display().to_string());
                SessionRepository {
                    path: asked.path.clone(),
                    mount_name: asked.mount_name.clone(),
                    mount_point: made.map(|made| made.mount_point.display().to_string()),
                    branch: made.map(|made| made.tree.branch.clone()),
                    base_branch: made.map_or_else(
                        || asked.base_branch.clone(),
                        |made| made.tree.base_branch.clone(),
                    ),
                    base_commit: made.map(|made| made.tree.base_commit.clone()),
                    worktree_path: worktree,
                }
            })
            .collect::<Vec<_>>();
        Ok(Session {
            summary: summary(row),
            description: row.metadata.description.clone(),
            model: row.spec.model.clone(),
            status_message: row.told.message.clone(),
            worktree_path: repositories
                .first()
                .and_then(|repository| repository.worktree_path.clone()),
            repositories,
            prompt: row.prompt.clone(),
            no_plan_mode: row.spec.no_plan_mode,
            image_paths: row.spec.image_paths.clone(),
            chat_history,
            resources: row.spec.resources.clone(),
            image: row.spec.image.clone(),
            env: row
                .spec
                .env
                .iter()
                .map(|(name, value)| {
                    let shown = match value {
                        super::record::SpecEnv::Plain(value) => EnvShown::Plain(value.clone()),
                        super::record::SpecEnv::Secret => EnvShown::Secret { secret: true },
                    };
                    (name.clone(), shown)
                })
                .collect(),
            backend_options: row.spec.backend_options.clone(),
            agent_options: row.spec.agent_options.clone(),
        })
    }
}

#[derive(Deserialize)]
struct StoredMessage {
    at: Timestamp,
    message: crate::event::ChatMessage,
}

fn summary(row: &SessionRow) -> SessionSummary {
    SessionSummary {
        id: row.id,
        name: row.metadata.name.clone(),
        title: row.metadata.title.clone(),
        tags: row.metadata.tags.clone(),
        backend: row.backend.clone(),
        agent: row.agent.clone(),
        status: row.told.status,
        activity: row.told.activity,
        health: row.told.health,
        repo_path: row
            .spec
            .repositories
            .first()
            .map(|repository| repository.path.clone())
            .unwrap_or_default(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived: row.told.status == Status::Archived,
    }
}

fn git_error(error: &GitError) -> SessionError {
    match error.kind() {
        GitErrorKind::Invalid | GitErrorKind::Conflict => SessionError::Conflict(error.to_string()),
        GitErrorKind::Failed => SessionError::Internal(task::chain(error)),
    }
}

fn word(state: berth_plugin_api::doc::PlaceState) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn body_hash(new: &NewSession) -> Result<String> {
    let body =
        serde_json::to_vec(new).map_err(|error| SessionError::Internal(error.to_string()))?;
    let mut text = String::new();
    for byte in Sha256::digest(&body) {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    Ok(text)
}

/// Differs after the machine was started anew.
fn machine() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Stores a new session, and the key that it was made under.
struct Insert {
    row: SessionRow,
    key: Option<(String, String)>,
}

#[async_trait]
impl Along for Insert {
    async fn apply(self: Box<Self>, db: &mut SqliteConnection) -> Result<(), DbError> {
        store::insert(db, &self.row).await?;
        if let Some((key, hash)) = &self.key {
            store::insert_creation_key(db, key, hash, self.row.id, self.row.created_at).await?;
        }
        Ok(())
    }
}

/// Stores what people call a session.
struct SaveMetadata {
    id: SessionId,
    metadata: Metadata,
}

#[async_trait]
impl Along for SaveMetadata {
    async fn apply(self: Box<Self>, db: &mut SqliteConnection) -> Result<(), DbError> {
        store::save_metadata(db, self.id, &self.metadata, now()).await
    }
}
