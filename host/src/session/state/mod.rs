//! The rules of a session's life: pure, so that each is a plain test.
//!
//! Three truths stand apart: what is wanted and was done ([`Record`]), what the driver last saw of the place, and whether
//! the keeper is connected (both [`Observed`]). [`next`] says what to do about their difference; the methods of [`Record`]
//! say what has happened; [`super::view`] says what the world sees.
//!
//! ```text
//!            trees        place              run
//! wanted:    Absent ─ Making ─ Made
//!                         Absent ─ Making ─ Down ─ Up
//!                                                  None ─ Starting ─ Running ─ Ended
//! ```
//! Each arrow's intent is stored before its act (`Making`, `Up`, `Starting`), so whoever comes after a crash does the act
//! again: every act is idempotent by the session's id.

use super::record::{Cause, Desired, Ended, Place, Prompt, Record, Retry, Run, RunState, Trees};
use berth_keeper_protocol::ProgramState;
use berth_plugin_api::doc::{Inspection, PlaceState};
use jiff::{SignedDuration, Timestamp};

/// So many falls …
pub(crate) const CRASH_FALLS: usize = 3;
/// … within so long are a crash loop; and running so long sets the count back.
pub(crate) const CRASH_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// Starts of a place's keeper that may come to nothing.
const START_TRIES: u32 = 3;

/// A keeper that is to be ended and does not answer so often is ended by the backend.
const DOWN_CONNECTS: u32 = 2;

/// What is seen from outside; nothing of it is stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observed {
    /// Why the backend does not answer.
    pub(crate) unreachable: Option<String>,
    /// What the backend said of the place; `None`: not asked yet.
    pub(crate) place: Option<Inspection>,
    /// The keeper is connected and its program is in this state.
    pub(crate) keeper: Option<ProgramState>,
    /// The run that the keeper's program belongs to.
    pub(crate) keeper_run: String,
    /// Connecting came to nothing so often since it last worked.
    pub(crate) connect_failures: u32,
    /// A working tree that was made is not there.
    pub(crate) trees_missing: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    MakeTrees,
    /// Check the branches out again, where a working tree went or is to be set back.
    ResetTrees,
    CreatePlace,
    StartPlace,
    Connect,
    StartProgram,
    /// See whether the first prompt was typed, and type it if not.
    TypePrompt,
    /// The program has ended: take its last output and its exit code.
    Collect,
    StopProgram,
    /// End the keeper; nothing is wanted of it any more.
    StopPlace,
    DeletePlace,
    /// Bring the branches in the user's repositories up to the session's commits.
    Sync,
    RemoveTrees,
    /// Nothing is left: take the session out of the books.
    Forget,
    /// Begin to bring back what died from outside.
    Revive,
    /// All is as wanted, until then.
    Rest(Option<Timestamp>),
}

impl Step {
    /// It is of no use to try it while the backend does not answer.
    pub(crate) fn needs_backend(self) -> bool {
        matches!(
            self,
            Self::CreatePlace
                | Self::StartPlace
                | Self::Connect
                | Self::StopPlace
                | Self::DeletePlace
                | Self::Revive
        )
    }
}

/// What to do next, so that what is becomes what is wanted.
pub(crate) fn next(record: &Record, observed: &Observed, now: Timestamp) -> Step {
    let step = wanted(record, observed, now);
    let forced = record.desired == Desired::Deleted { force: true };
    if observed.unreachable.is_some() && step.needs_backend() && !forced {
        return Step::Rest(None);
    }
    step
}

fn wanted(record: &Record, observed: &Observed, now: Timestamp) -> Step {
    match record.desired {
        Desired::Running => next_running(record, observed, now),
        Desired::Stopped => down(record, observed).unwrap_or_else(|| {
            if record.unsynced && record.trees == Trees::Made {
                Step::Sync
            } else {
                Step::Rest(None)
            }
        }),
        Desired::Archived => gone(record, observed).unwrap_or(Step::Rest(None)),
        Desired::Cleaned => gone(record, observed).unwrap_or(match record.trees {
            Trees::Absent => Step::Rest(None),
            Trees::Making | Trees::Made => Step::RemoveTrees,
        }),
        Desired::Deleted { .. } => match (record.place, record.trees) {
            (Place::Making | Place::Down | Place::Up, _) => Step::DeletePlace,
            (Place::Absent, Trees::Making | Trees::Made) => Step::RemoveTrees,
            (Place::Absent, Trees::Absent) => Step::Forget,
        },
    }
}

fn next_running(record: &Record, observed: &Observed, now: Timestamp) -> Step {
    if record.failure.is_some() {
        return match (record.place, record.retry.next_attempt) {
            (Place::Absent, Some(at)) if at <= now => Step::Revive,
            (Place::Absent, at) => Step::Rest(at),
            _ => Step::DeletePlace,
        };
    }
    if record.rebuild
        && let Some(step) = gone(record, observed)
    {
        return step;
    }
    match record.trees {
        Trees::Absent | Trees::Making => return Step::MakeTrees,
        Trees::Made if record.fresh || (observed.trees_missing && record.rebuild) => {
            return Step::ResetTrees;
        }
        Trees::Made => {}
    }
    if record.ended().is_some() && !record.rebuild {
        if record.place == Place::Up {
            return Step::StopPlace;
        }
        return match record.retry.next_attempt {
            Some(at) if at <= now => Step::Revive,
            _ if record.unsynced => Step::Sync,
            at => Step::Rest(at),
        };
    }
    match (record.place, &observed.keeper) {
        (Place::Absent | Place::Making, _) => Step::CreatePlace,
        (Place::Down, _) => Step::StartPlace,
        (Place::Up, None) => Step::Connect,
        (Place::Up, Some(program)) => match record.run.as_ref().map(|run| &run.state) {
            None | Some(RunState::Starting | RunState::Ended(_)) => Step::StartProgram,
            Some(RunState::Running) if over(program) => Step::Collect,
            Some(RunState::Running) if record.prompt == Prompt::Typing => Step::TypePrompt,
            Some(RunState::Running) => Step::Rest(None),
        },
    }
}

/// What is left to do until nothing runs.
fn down(record: &Record, observed: &Observed) -> Option<Step> {
    if record.place != Place::Up {
        return None;
    }
    if !record.is_alive() {
        return Some(Step::StopPlace);
    }
    Some(match &observed.keeper {
        None if observed.connect_failures >= DOWN_CONNECTS => Step::StopPlace,
        None => Step::Connect,
        Some(program) if over(program) => Step::Collect,
        Some(ProgramState::Waiting) => Step::StopPlace,
        Some(_) => Step::StopProgram,
    })
}

/// What is left to do until nothing of the place stands.
fn gone(record: &Record, observed: &Observed) -> Option<Step> {
    if let Some(step) = down(record, observed) {
        return Some(step);
    }
    if record.place != Place::Absent {
        return Some(Step::DeletePlace);
    }
    (record.unsynced && record.trees == Trees::Made && !observed.trees_missing)
        .then_some(Step::Sync)
}

fn over(program: &ProgramState) -> bool {
    matches!(
        program,
        ProgramState::Exited { .. } | ProgramState::Failed { .. }
    )
}

/// A wish of the user, already found to be on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Start,
    Stop,
    Recreate { fresh: bool },
    Archive,
    Unarchive,
    Cleanup,
    Delete { force: bool },
}

impl Record {
    /// The record of a session that was just asked for.
    pub(crate) fn new(machine: &str) -> Self {
        Self {
            machine: machine.to_owned(),
            ..Self::default()
        }
    }

    /// The user wants something else from now on.
    pub(crate) fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Start | Wish::Unarchive => {
                self.desired = Desired::Running;
                self.begin();
            }
            Wish::Stop => {
                self.desired = Desired::Stopped;
                self.retry = Retry::default();
            }
            Wish::Recreate { fresh } => {
                self.desired = Desired::Running;
                self.failure = None;
                self.start_tries = 0;
                self.rebuild = true;
                self.retry = Retry::default();
                if fresh {
                    self.fresh = self.trees == Trees::Made;
                    self.falls.clear();
                    self.native_id = None;
                    self.prompt = Prompt::Waiting;
                }
                if !self.is_alive() {
                    self.run = None;
                }
            }
            Wish::Archive => {
                self.desired = Desired::Archived;
                self.retry = Retry::default();
            }
            Wish::Cleanup => {
                self.desired = Desired::Cleaned;
                self.retry = Retry::default();
                self.falls.clear();
            }
            Wish::Delete { force } => {
                let forced = self.desired == Desired::Deleted { force: true };
                self.desired = Desired::Deleted {
                    force: force || forced,
                };
            }
        }
    }

    /// Whatever ran before is over, and a new run is to be begun.
    fn begin(&mut self) {
        self.failure = None;
        self.start_tries = 0;
        self.retry = Retry::default();
        if !self.is_alive() {
            self.run = None;
        }
    }

    /// The place is about to be made.
    pub(crate) fn place_making(&mut self) {
        self.place = Place::Making;
        self.rebuild = false;
        self.run = None;
        self.start_tries = 0;
    }

    /// The place stands.
    pub(crate) fn place_made(&mut self, handle: serde_json::Value, warnings: Vec<String>) {
        self.place = Place::Down;
        self.handle = handle;
        self.warnings = warnings;
    }

    /// The place is about to be started.
    pub(crate) fn place_starting(&mut self) {
        self.place = Place::Up;
        self.start_tries += 1;
        if !self.is_alive() {
            self.run = None;
        }
    }

    /// Nothing runs in the place any more.
    pub(crate) fn place_stopped(&mut self, now: Timestamp) {
        self.place = Place::Down;
        match self.run.as_ref().map(|run| &run.state) {
            Some(RunState::Running) => self.end(
                None,
                Cause::Asked,
                "the session was stopped".to_owned(),
                now,
                &[],
            ),
            Some(RunState::Starting) => self.run = None,
            None | Some(RunState::Ended(_)) => {}
        }
    }

    /// Nothing of the place stands.
    pub(crate) fn place_deleted(&mut self, now: Timestamp) {
        self.place_stopped(now);
        self.place = Place::Absent;
        self.handle = serde_json::Value::Null;
    }

    /// A new run was decided on; the keeper is told next.
    pub(crate) fn starting(&mut self, run_id: String, first_offset: u64, now: Timestamp) {
        self.run = Some(Run {
            id: run_id,
            state: RunState::Starting,
            first_offset,
            started_at: now,
        });
    }

    /// The keeper has started the program.
    pub(crate) fn running(&mut self, machine: &str) {
        if let Some(run) = &mut self.run {
            run.state = RunState::Running;
        }
        machine.clone_into(&mut self.machine);
        self.has_run = true;
        self.start_tries = 0;
        self.unsynced = true;
        self.failure = None;
        self.retry.next_attempt = None;
        self.retry.error = None;
    }

    /// The keeper said how its program is.
    pub(crate) fn program_ended(
        &mut self,
        program: &ProgramState,
        oom_killed: bool,
        now: Timestamp,
        backoff: &[SignedDuration],
    ) {
        match program {
            ProgramState::Exited { code, signal } => {
                let cause = if self.desired != Desired::Running || self.rebuild {
                    Cause::Asked
                } else if signal.is_some() || oom_killed {
                    Cause::Outside
                } else {
                    Cause::Itself
                };
                let message = if oom_killed {
                    "the program was killed for want of memory".to_owned()
                } else {
                    match signal {
                        Some(signal) => format!("the program was ended by signal {signal}"),
                        None => format!("the program ended with code {code}"),
                    }
                };
                self.end(Some(*code), cause, message, now, backoff);
            }
            ProgramState::Failed { message } => {
                self.run = None;
                self.fail(message.clone(), now, backoff);
            }
            ProgramState::Waiting | ProgramState::Running { .. } => {}
        }
    }

    /// The backend said how the place is. True: something follows from it.
    pub(crate) fn place_seen(
        &mut self,
        seen: &Inspection,
        away: bool,
        now: Timestamp,
        backoff: &[SignedDuration],
    ) -> bool {
        let dead = matches!(
            seen.state,
            PlaceState::Exited | PlaceState::Missing | PlaceState::DataLost | PlaceState::Created
        );
        if !dead || self.place != Place::Up {
            return false;
        }
        let gone = matches!(seen.state, PlaceState::Missing | PlaceState::DataLost);
        match self.run.as_ref().map(|run| run.state.clone()) {
            Some(RunState::Ended(_)) => self.place = Place::Down,
            Some(RunState::Running) => {
                let cause = if self.desired != Desired::Running || self.rebuild {
                    Cause::Asked
                } else if away {
                    Cause::Away
                } else {
                    Cause::Outside
                };
                let message = seen.error_message.clone().unwrap_or_else(|| {
                    let what = if gone {
                        "is gone from the backend"
                    } else {
                        "was ended from outside"
                    };
                    format!("the session's place {what}")
                });
                self.place = Place::Down;
                self.end(
                    seen.exit_code.or(Some(128 + 9)),
                    cause,
                    message,
                    now,
                    backoff,
                );
            }
            None | Some(RunState::Starting) => {
                // It ended before its program came to run; nothing of it is known to have happened.
                self.run = None;
                self.place = if gone { Place::Absent } else { Place::Down };
                if self.start_tries >= START_TRIES && self.desired == Desired::Running {
                    let message = seen.error_message.clone().unwrap_or_else(|| {
                        "the session's place ends as soon as it is started".to_owned()
                    });
                    self.fail(message, now, backoff);
                }
            }
        }
        true
    }

    /// The session could not be brought up.
    pub(crate) fn fail(&mut self, message: String, now: Timestamp, backoff: &[SignedDuration]) {
        self.fell(now);
        self.failure = Some(message.clone());
        self.rebuild = false;
        if !self.is_alive() {
            self.run = None;
        }
        // Only what was being brought back is tried again.
        if self.retry.attempts > 0 && self.desired == Desired::Running {
            self.retry.error = Some(message);
            self.schedule(now, backoff);
        }
    }

    fn end(
        &mut self,
        code: Option<i32>,
        cause: Cause,
        message: String,
        now: Timestamp,
        backoff: &[SignedDuration],
    ) {
        let Some(run) = &mut self.run else { return };
        if now.duration_since(run.started_at) >= CRASH_WINDOW {
            self.falls.clear();
            self.retry = Retry::default();
        }
        run.state = RunState::Ended(Ended {
            code,
            cause,
            message: message.clone(),
            at: now,
        });
        match cause {
            Cause::Asked | Cause::Away => {}
            Cause::Itself | Cause::Outside if code == Some(0) => {}
            Cause::Itself | Cause::Outside => self.fell(now),
        }
        match cause {
            Cause::Asked => {}
            // It ended by itself: nothing is wanted of it until the user says so.
            Cause::Itself => self.desired = Desired::Stopped,
            Cause::Outside => {
                self.retry.error = Some(message);
                self.schedule(now, backoff);
            }
            Cause::Away => {
                self.retry.error = Some(message);
                self.retry.next_attempt = Some(now);
            }
        }
    }

    fn fell(&mut self, now: Timestamp) {
        self.falls.push(now);
        let surplus = self.falls.len().saturating_sub(CRASH_FALLS);
        self.falls.drain(..surplus);
    }

    fn schedule(&mut self, now: Timestamp, backoff: &[SignedDuration]) {
        let index = usize::try_from(self.retry.attempts).unwrap_or(usize::MAX);
        let wait = backoff.get(index).or(backoff.last());
        self.retry.next_attempt = match wait {
            Some(wait) if !self.in_crash_loop() => now.checked_add(*wait).ok(),
            _ => None,
        };
    }

    /// The attempt that was waited for begins.
    pub(crate) fn revive(&mut self, gone: bool, now: Timestamp) {
        let costs = !self.ended().is_some_and(|ended| ended.cause == Cause::Away);
        if costs {
            self.retry.attempts += 1;
        }
        self.retry.last_attempt = Some(now);
        self.retry.next_attempt = None;
        self.failure = None;
        self.start_tries = 0;
        self.run = None;
        if gone {
            self.place = Place::Absent;
        }
    }

    /// Three falls within ten minutes.
    pub(crate) fn in_crash_loop(&self) -> bool {
        match (self.falls.first(), self.falls.last()) {
            (Some(first), Some(last)) if self.falls.len() >= CRASH_FALLS => {
                last.duration_since(*first) <= CRASH_WINDOW
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
