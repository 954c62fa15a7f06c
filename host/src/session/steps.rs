//! The steps of a session's task: each stores its intent, acts, and stores what has become of it.
//!
//! Every step may be cut off at any await, by a wish or by the end of the server, and be done again.

use super::launch;
use super::record::{Desired, MadeTree, Place, Prompt, Record, RunState, Trees};
use super::shared::now;
use super::state::Step;
use super::task::{StepError, Task};
use super::{Role, SyncedBranch, store};
use crate::db::DbError;
use crate::driver::{BackendDriver, Call};
use crate::event::{Along, ChatMessage, EventBody, NewEvent};
use crate::git::{GitError, Repository, SyncOutcome, WorkingTreeSpec};
use crate::keeper::Keeper;
use async_trait::async_trait;
use berth_keeper_protocol::ProgramState;
use berth_plugin_api::Error;
use berth_plugin_api::doc::{DeleteRequest, LaunchRequest, PlaceRequest, PlaceState, StopRequest};
use sqlx::sqlite::SqliteConnection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// How long the last output of an ended program may take to arrive.
const LAST_OUTPUT: Duration = Duration::from_secs(20);
/// How long the output so far may take to arrive before the prompt is looked for in it.
const CATCH_UP: Duration = Duration::from_secs(5);
/// The longest wait for a backend when a session is to go in any case.
const FORCED_LIMIT: Duration = Duration::from_secs(10);

type Done<T = ()> = Result<T, StepError>;

fn failed(attempted: &'static str) -> impl FnOnce(Error) -> StepError {
    move |source| StepError::Backend {
        attempted,
        source: Box::new(source),
    }
}

impl Task {
    /// Does a step.
    #[tracing::instrument(name = "step", skip(self))]
    pub(super) async fn perform(&mut self, step: Step) -> Done {
        tracing::debug!("begins");
        match step {
            Step::MakeTrees => self.make_trees().await,
            Step::ResetTrees => self.reset_trees().await,
            Step::CreatePlace => self.create_place().await,
            Step::StartPlace => self.start_place().await,
            Step::Connect => self.connect().await,
            Step::StartProgram => self.start_program().await,
            Step::TypePrompt => self.type_prompt().await,
            Step::Collect => self.collect().await,
            Step::StopProgram => self.stop_program().await,
            Step::StopPlace => self.stop_place().await,
            Step::DeletePlace => self.delete_place().await,
            Step::Sync => self.sync().await,
            Step::RemoveTrees => self.remove_trees().await,
            Step::Forget => self.forget().await,
            Step::Revive => self.revive().await,
            Step::Rest(_) => Ok(()),
        }
    }

    async fn commit_record(&mut self, change: impl FnOnce(&mut Record)) -> Done {
        let mut record = self.record().clone();
        change(&mut record);
        Ok(self.commit(record, Vec::new()).await?)
    }

    fn driver(&self) -> Done<Arc<dyn BackendDriver>> {
        self.driver.clone().ok_or_else(|| {
            failed("answer")(Error::unavailable("its plugin is not loaded any more"))
        })
    }

    pub(super) fn place_request(&self) -> PlaceRequest {
        PlaceRequest {
            session: launch::session_ref(&self.shared, &self.row),
            handle: self.record().handle.clone(),
        }
    }

    /// The architecture of the backend's places.
    async fn architecture(&self) -> Done<String> {
        let Some(backend) = self.shared.backends.get(&self.row.backend) else {
            return Ok(String::new());
        };
        let state = backend.known().await;
        match state.unreachable {
            Some(reason) if state.probe.architecture.is_empty() => {
                Err(failed("answer")(Error::unavailable(reason)))
            }
            _ => Ok(state.probe.architecture),
        }
    }

    async fn make_trees(&mut self) -> Done {
        if self.record().trees == Trees::Absent {
            self.commit_record(|record| record.trees = Trees::Making)
                .await?;
        }
        let folder = self.shared.folder(self.id());
        folder
            .make()
            .map_err(|error| StepError::Other(super::task::chain(&error)))?;
        let layout = self.layout();
        let mut made = Vec::new();
        for index in 0..self.row.spec.repositories.len() {
            // One that was cleaned up goes on with its own branch.
            if let Some(before) = self.record().repositories.get(index).cloned() {
                self.shared.git.recheckout(&before.tree).await?;
                made.push(before);
                continue;
            }
            let (spec, mount_name) = self.tree_spec(index).await?;
            let tree = self.shared.git.create(&spec).await?;
            let mount_point = layout.mount_point(&mount_name);
            made.push(MadeTree {
                mount_name,
                mount_point,
                tree,
            });
        }
        self.observed.trees_missing = false;
        self.commit_record(|record| {
            record.trees = Trees::Made;
            record.repositories = made;
            record.fresh = false;
        })
        .await
    }

    async fn tree_spec(&self, index: usize) -> Done<(WorkingTreeSpec, String)> {
        let repository = &self.row.spec.repositories[index];
        let found: Repository = self.shared.git.inspect(Path::new(&repository.path)).await?;
        let folder = self.shared.folder(self.id());
        let spec = WorkingTreeSpec {
            repository: found,
            session_name: self.row.metadata.name.to_string(),
            base_branch: repository.base_branch.clone(),
            work: folder.work.join(&repository.mount_name),
            git: folder.git.join(&repository.mount_name),
        };
        Ok((spec, repository.mount_name.clone()))
    }

    /// Sets working trees back to their branch's last commit, or checks out those that are gone.
    async fn reset_trees(&mut self) -> Done {
        let fresh = self.record().fresh;
        for made in self.record().repositories.clone() {
            let missing = made.tree.is_missing();
            if !missing && !fresh {
                continue;
            }
            if !missing {
                self.save_tree(&made).await?;
            }
            self.shared.git.recheckout(&made.tree).await?;
        }
        self.observed.trees_missing = false;
        let events = if fresh {
            vec![said(
                Role::System,
                "The session was recreated: a new conversation begins here.",
            )]
        } else {
            Vec::new()
        };
        let mut record = self.record().clone();
        record.fresh = false;
        Ok(self.commit(record, events).await?)
    }

    async fn create_place(&mut self) -> Done {
        let driver = self.driver()?;
        let layout = self.layout();
        let request = launch::create_request(
            &self.shared,
            &self.row,
            &layout,
            &self.architecture().await?,
        )?;
        self.commit_record(Record::place_making).await?;
        let (progress, mut told) = mpsc::channel(16);
        let call = Call::new(self.shared.settings.limits.create).with_progress(progress);
        let place = {
            let creating = driver.create(call, &request);
            tokio::pin!(creating);
            loop {
                tokio::select! {
                    place = &mut creating => break place,
                    Some(progress) = told.recv() => {
                        self.progress = Some(progress.message);
                        self.publish().await;
                    }
                }
            }
        };
        self.progress = None;
        let place = place.map_err(failed("make the session's place"))?;
        self.observed.place = None;
        self.commit_record(|record| record.place_made(place.handle, place.warnings))
            .await
    }

    async fn start_place(&mut self) -> Done {
        let driver = self.driver()?;
        self.commit_record(Record::place_starting).await?;
        let call = Call::new(self.shared.settings.limits.start);
        driver
            .start(call, &self.place_request())
            .await
            .map_err(failed("start the session's place"))?;
        self.observed.connect_failures = 0;
        self.observed.place = None;
        Ok(())
    }

    async fn connect(&mut self) -> Done {
        let driver = self.driver()?;
        let call = Call::new(self.shared.settings.limits.connect);
        let stream = driver
            .connect(call, &self.place_request())
            .await
            .map_err(failed("reach the session's keeper"))?;
        let keeper = Keeper::connect(stream).await?;
        let held = &keeper.hello().session;
        if !held.is_empty() && *held != self.id().to_string() {
            return Err(StepError::Other(format!(
                "the keeper that answers is session {held}'s"
            )));
        }
        self.use_keeper(keeper).await?;
        let running = self.record().run.as_ref().is_some_and(|run| {
            run.state == RunState::Running && run.id == self.observed.keeper_run
        });
        if running {
            self.read_output().await;
        }
        Ok(())
    }

    fn keeper(&self) -> Done<Keeper> {
        self.link
            .as_ref()
            .map(|link| link.keeper.clone())
            .ok_or_else(|| StepError::Other("the keeper is not connected".to_owned()))
    }

    async fn start_program(&mut self) -> Done {
        let keeper = self.keeper()?;
        let agent = self
            .shared
            .agent(&self.row.agent)
            .map_err(|error| StepError::Other(error.to_string()))?
            .clone();
        let layout = self.layout();
        if !self.record().is_alive() {
            let first_offset = self.console.next_offset();
            self.commit_record(|record| {
                record.starting(Uuid::now_v7().to_string(), first_offset, now());
            })
            .await?;
        }
        let context = launch::agent_context(
            &self.shared,
            &self.row,
            &layout,
            &self.architecture().await?,
        );
        let prompted = self.record().prompt != Prompt::Waiting;
        let request = LaunchRequest {
            context: context.clone(),
            resume: self.record().native_id.clone(),
            prompt: Some(self.row.prompt.clone()).filter(|prompt| !prompted && !prompt.is_empty()),
        };
        let plan = agent
            .launch(&request)
            .await
            .map_err(|error| StepError::Agent(Box::new(error)))?;
        launch::seed(&keeper, &plan.files).await?;
        let folder = self.shared.folder(self.id());
        let secrets = launch::read_secrets(&folder, &self.row).await?;
        let mut program =
            launch::start_program(&self.shared, &self.row, &layout, &context, &plan, &secrets);
        program.size = self.console.size();
        let status = match keeper.start(&program).await {
            Err(error) if error.is_conflict() && self.observed.keeper_run != program.run_id => {
                // The keeper holds another run: it is of no use to this one.
                self.drop_link();
                let driver = self.driver()?;
                stop_place(&driver, self.place_request(), Duration::ZERO).await?;
                return self
                    .commit_record(|record| {
                        record.run = None;
                        record.place = Place::Down;
                    })
                    .await;
            }
            status => status?,
        };
        self.observed.keeper = Some(status.program.clone());
        self.observed.keeper_run.clone_from(&status.run_id);
        let mut record = self.record().clone();
        if let ProgramState::Failed { .. } = &status.program {
            record.program_ended(&status.program, false, now(), &self.shared.backoff);
            return Ok(self.commit(record, Vec::new()).await?);
        }
        let machine = self.shared.machine.clone();
        record.running(&machine);
        if let Some(id) = plan.native_id {
            record.native_id = Some(id);
        }
        let mut events = Vec::new();
        if !prompted {
            if plan.typed.is_empty() {
                record.prompt = Prompt::Given;
                events.extend(self.prompt_event());
            } else {
                record.prompt = Prompt::Typing;
                self.own_run = Some(program.run_id);
            }
        }
        self.commit(record, events).await?;
        self.read_output().await;
        Ok(())
    }

    /// The first prompt as an event, where the agent does not tell by itself what is said to it.
    fn prompt_event(&self) -> Option<NewEvent> {
        let agent = self.shared.drivers.agents.get(&self.row.agent)?;
        let silent = !agent.description().capabilities.events;
        (silent && !self.row.prompt.is_empty()).then(|| said(Role::User, &self.row.prompt))
    }

    async fn type_prompt(&mut self) -> Done {
        let keeper = self.keeper()?;
        let layout = self.layout();
        let run_id = self.record().run.as_ref().map(|run| run.id.clone());
        if self.own_run != run_id && self.was_typed(&keeper).await? {
            return self.prompt_given().await;
        }
        let agent = self
            .shared
            .agent(&self.row.agent)
            .map_err(|error| StepError::Other(error.to_string()))?
            .clone();
        let context = launch::agent_context(
            &self.shared,
            &self.row,
            &layout,
            &self.architecture().await?,
        );
        let request = LaunchRequest {
            context,
            resume: None,
            prompt: Some(self.row.prompt.clone()),
        };
        let plan = agent
            .launch(&request)
            .await
            .map_err(|error| StepError::Agent(Box::new(error)))?;
        // Whatever comes between from now on, the prompt is looked for before it is typed again.
        self.own_run = None;
        let limit = self.shared.settings.limits.input;
        match timeout(limit, launch::type_keys(&keeper, &plan.typed)).await {
            Ok(typed) => typed?,
            Err(_) => {
                return Err(StepError::Other(
                    "the terminal did not take the prompt".to_owned(),
                ));
            }
        }
        self.prompt_given().await
    }

    async fn prompt_given(&mut self) -> Done {
        let mut record = self.record().clone();
        record.prompt = Prompt::Given;
        let events = self.prompt_event().into_iter().collect();
        Ok(self.commit(record, events).await?)
    }

    /// An earlier server may have typed the prompt just before it ended: then the terminal has shown it. Blanks do not
    /// count, since lines are wrapped.
    async fn was_typed(&mut self, keeper: &Keeper) -> Done<bool> {
        self.read_output().await;
        let end = keeper.status().await?.next_offset;
        let until = Instant::now() + CATCH_UP;
        while self.console.next_offset() < end && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let squeezed = |text: &str| -> String {
            text.chars()
                .filter(|character| !character.is_whitespace() && !character.is_control())
                .collect()
        };
        let shown = squeezed(&self.console.history_text().await?);
        Ok(shown.contains(&squeezed(&self.row.prompt)))
    }

    async fn collect(&mut self) -> Done {
        let keeper = self.keeper()?;
        self.read_output().await;
        if let Ok(false) = timeout(LAST_OUTPUT, self.output_read()).await {
            return Err(StepError::Other(
                "the last output could not be read".to_owned(),
            ));
        }
        let status = keeper.status().await?;
        let mut record = self.record().clone();
        let oom_killed = match &status.program {
            ProgramState::Exited {
                signal: Some(9), ..
            } => self
                .inspect_quietly()
                .await
                .is_some_and(|place| place.oom_killed),
            _ => false,
        };
        record.program_ended(&status.program, oom_killed, now(), &self.shared.backoff);
        let ended = record
            .ended()
            .map(|ended| (ended.code, ended.message.clone()));
        match (ended, &record.failure) {
            (Some((code, _)), _) => self.console.ended(code, None).await,
            (None, Some(failure)) => self.console.ended(None, Some(failure.clone())).await,
            (None, None) => {}
        }
        // Saved before the record says that it ended: from then on the keeper may be let go.
        self.console.save().await?;
        Ok(self.commit(record, Vec::new()).await?)
    }

    async fn inspect_quietly(&self) -> Option<berth_plugin_api::doc::Inspection> {
        let driver = self.driver.as_ref()?;
        let call = Call::new(self.shared.settings.limits.inspect);
        driver.inspect(call, &self.place_request()).await.ok()
    }

    async fn stop_program(&mut self) -> Done {
        let keeper = self.keeper()?;
        let status = keeper.stop(self.shared.settings.limits.stop_grace).await?;
        self.observed.keeper = Some(status.program);
        Ok(())
    }

    async fn stop_place(&mut self) -> Done {
        let run_id = self.record().run.as_ref().map(|run| run.id.clone());
        let collected = self.record().ended().is_some();
        if let (Some(link), Some(run_id), true) = (&self.link, run_id, collected)
            && let Err(error) = link.keeper.release(&run_id).await
        {
            tracing::debug!(%error, "the keeper could not be released; its place is stopped");
        }
        let driver = self.driver()?;
        let grace = if collected {
            Duration::from_secs(1)
        } else {
            self.shared.settings.limits.stop_grace
        };
        let outcome = stop_place(&driver, self.place_request(), grace).await;
        match outcome {
            Err(StepError::Backend { source, .. })
                if source.code == berth_plugin_api::Code::NotFound => {}
            other => other?,
        }
        self.drop_link();
        self.observed.place = None;
        if !collected {
            self.console
                .ended(None, Some("the session was stopped".to_owned()))
                .await;
            self.save_console().await;
        }
        self.commit_record(|record| record.place_stopped(now()))
            .await
    }

    async fn delete_place(&mut self) -> Done {
        let data = matches!(
            self.record().desired,
            Desired::Deleted { .. } | Desired::Cleaned
        ) || !self.record().has_run;
        let forced = self.record().desired == (Desired::Deleted { force: true });
        let limit = self.shared.settings.limits.delete;
        let call = Call::new(if forced {
            limit.min(FORCED_LIMIT)
        } else {
            limit
        });
        let driver = self.driver()?;
        let request = DeleteRequest {
            place: self.place_request(),
            data,
        };
        let deleted = driver
            .delete(call, &request)
            .await
            .map_err(failed("remove the session's place"))?;
        self.drop_link();
        self.outcome.removed.extend(deleted.removed);
        self.observed.place = None;
        self.commit_record(|record| record.place_deleted(now()))
            .await
    }

    async fn sync(&mut self) -> Done {
        for made in self.record().repositories.clone() {
            if !made.tree.is_missing() {
                self.sync_tree(&made).await?;
            }
        }
        self.commit_record(|record| {
            // What runs may commit at any time.
            record.unsynced = record.is_alive();
        })
        .await
    }

    async fn sync_tree(&mut self, made: &MadeTree) -> Done<SyncedBranch> {
        sync_tree(&self.shared.git, made).await.map_err(Into::into)
    }

    async fn save_tree(&mut self, made: &MadeTree) -> Done {
        let name = self.row.metadata.name.to_string();
        let rescue = self.shared.git.save(&made.tree, &name).await?;
        if let Some(message) = rescue.incomplete {
            self.outcome.message = Some(message);
        }
        self.outcome.rescued.extend(rescue.references);
        Ok(())
    }

    async fn remove_trees(&mut self) -> Done {
        if self.record().trees == Trees::Made {
            for made in self.record().repositories.clone() {
                if !made.tree.is_missing() {
                    self.save_tree(&made).await?;
                }
                self.shared.git.remove(&made.tree).await?;
            }
            self.outcome.removed.push("worktree".to_owned());
        } else {
            for index in 0..self.row.spec.repositories.len() {
                // A repository that is gone has nothing to take away from.
                let Ok((spec, _)) = self.tree_spec(index).await else {
                    continue;
                };
                self.shared.git.discard(&spec).await?;
            }
        }
        self.observed.trees_missing = false;
        self.commit_record(|record| {
            record.trees = Trees::Absent;
            record.unsynced = false;
        })
        .await
    }

    async fn forget(&mut self) -> Done {
        self.drop_link();
        self.console.close();
        let folder = self.shared.folder(self.id()).root;
        super::folder::remove(&folder)
            .await
            .map_err(|source| StepError::Io {
                attempted: "remove the session's folder",
                source,
            })?;
        let last = Bury {
            id: self.id(),
            record: self.record().clone(),
        };
        self.shared
            .events
            .append_along(self.id(), vec![EventBody::SessionDeleted.into()], last)
            .await?;
        tracing::info!("session deleted");
        self.shared.registry.remove(self.id());
        self.settle_gone();
        Ok(())
    }

    async fn revive(&mut self) -> Done {
        let inspection = {
            let driver = self.driver()?;
            let call = Call::new(self.shared.settings.limits.inspect);
            driver
                .inspect(call, &self.place_request())
                .await
                .map_err(failed("inspect the session's place"))?
        };
        let gone = matches!(inspection.state, PlaceState::Missing | PlaceState::DataLost);
        tracing::info!(gone, "bringing the session back");
        self.commit_record(|record| record.revive(gone, now()))
            .await
    }
}

/// Brings a branch in the user's repository up to the session's commits.
pub(super) async fn sync_tree(
    git: &crate::git::Git,
    made: &MadeTree,
) -> Result<SyncedBranch, GitError> {
    let synced = git.sync(&made.tree).await?;
    let kept = match synced.outcome {
        SyncOutcome::Kept { reference, reason } => {
            tracing::warn!(branch = %synced.branch, %reference, "the branch was left alone: {reason}");
            Some(reference)
        }
        SyncOutcome::Unchanged | SyncOutcome::Moved => None,
    };
    Ok(SyncedBranch {
        path: made.tree.top.display().to_string(),
        branch: synced.branch,
        commit: synced.commit,
        kept,
    })
}

async fn stop_place(driver: &Arc<dyn BackendDriver>, place: PlaceRequest, grace: Duration) -> Done {
    let request = StopRequest {
        place,
        grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
    };
    let call = Call::new(grace + Duration::from_mins(1));
    driver
        .stop(call, &request)
        .await
        .map_err(failed("stop the session's place"))
}

/// A message as an event.
pub(super) fn said(role: Role, content: &str) -> NewEvent {
    EventBody::ChatMessage {
        message: ChatMessage {
            role,
            content: content.to_owned(),
        },
    }
    .into()
}

/// Takes a session out of the books, together with its last event.
struct Bury {
    id: super::SessionId,
    record: Record,
}

#[async_trait]
impl Along for Bury {
    async fn apply(self: Box<Self>, db: &mut SqliteConnection) -> Result<(), DbError> {
        store::mark_deleted(db, self.id, &self.record, now()).await
    }
}
