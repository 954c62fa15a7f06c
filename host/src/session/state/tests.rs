//! Single rules as tables, and lives of sessions at random: whatever is asked for, fails, dies or is cut off, a session
//! that is left alone comes to rest as it was last asked to be, and leaves nothing behind.

use super::*;
use crate::session::record::MadeTree;
use crate::session::view::{Offers, Permit, actions, permit, view};
use crate::session::{Action, Activity, Health, Status};
use proptest::prelude::*;
use serde_json::json;

const BACKOFF: [SignedDuration; 3] = [
    SignedDuration::from_secs(30),
    SignedDuration::from_mins(2),
    SignedDuration::from_mins(5),
];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// A session that has been running since second 0.
fn running() -> (Record, Observed) {
    let mut record = Record::new("machine");
    record.trees = Trees::Made;
    record.place_making();
    record.place_made(json!({"v": 1}), Vec::new());
    record.place_starting();
    record.starting("r1".to_owned(), 0, at(0));
    record.running("machine");
    record.prompt = Prompt::Given;
    let observed = Observed {
        keeper: Some(ProgramState::Running { pid: 1 }),
        keeper_run: "r1".to_owned(),
        ..Observed::default()
    };
    (record, observed)
}

fn exited(code: i32, signal: Option<i32>) -> ProgramState {
    ProgramState::Exited { code, signal }
}

fn seen(state: PlaceState) -> Inspection {
    Inspection {
        state,
        ..Inspection::default()
    }
}

fn health(record: &Record, observed: &Observed) -> Health {
    view(record, observed, Activity::Unknown).health
}

fn offered(record: &Record, observed: &Observed) -> Vec<Action> {
    let health = health(record, observed);
    actions(record, health, Offers::default())
        .into_keys()
        .collect()
}

#[test]
fn a_new_session_comes_up_step_by_step() {
    let mut record = Record::new("m");
    let mut observed = Observed::default();
    let step = |record: &Record, observed: &Observed| next(record, observed, at(0));
    assert_eq!(step(&record, &observed), Step::MakeTrees);
    record.trees = Trees::Making;
    assert_eq!(step(&record, &observed), Step::MakeTrees);
    record.trees = Trees::Made;
    assert_eq!(step(&record, &observed), Step::CreatePlace);
    record.place_making();
    assert_eq!(step(&record, &observed), Step::CreatePlace);
    record.place_made(json!(1), Vec::new());
    assert_eq!(step(&record, &observed), Step::StartPlace);
    record.place_starting();
    assert_eq!(step(&record, &observed), Step::Connect);
    assert_eq!(health(&record, &observed), Health::Pending);
    observed.keeper = Some(ProgramState::Waiting);
    assert_eq!(step(&record, &observed), Step::StartProgram);
    record.starting("r".to_owned(), 0, at(0));
    assert_eq!(step(&record, &observed), Step::StartProgram);
    record.running("m");
    observed.keeper = Some(ProgramState::Running { pid: 1 });
    record.prompt = Prompt::Typing;
    assert_eq!(step(&record, &observed), Step::TypePrompt);
    record.prompt = Prompt::Given;
    assert_eq!(step(&record, &observed), Step::Rest(None));
    assert_eq!(health(&record, &observed), Health::Healthy);
}

#[test]
fn how_a_program_ends_decides_what_follows() {
    // code, signal, killed for memory, health, desired, next attempt after seconds, falls
    let table = [
        (0, None, false, Health::Stopped, Desired::Stopped, None, 0),
        (1, None, false, Health::Error, Desired::Stopped, None, 1),
        (
            137,
            Some(9),
            false,
            Health::Error,
            Desired::Running,
            Some(30),
            1,
        ),
        (
            137,
            Some(9),
            true,
            Health::Error,
            Desired::Running,
            Some(30),
            1,
        ),
    ];
    for (code, signal, oom, expected, desired, attempt, falls) in table {
        let (mut record, mut observed) = running();
        observed.keeper = Some(exited(code, signal));
        assert_eq!(next(&record, &observed, at(5)), Step::Collect);
        record.program_ended(&exited(code, signal), oom, at(5), &BACKOFF);
        observed.keeper = None;
        assert_eq!(health(&record, &observed), expected, "{code} {signal:?}");
        assert_eq!(record.desired, desired);
        assert_eq!(
            record.retry.next_attempt,
            attempt.map(|after| at(5 + after))
        );
        assert_eq!(record.falls.len(), falls);
        assert_eq!(next(&record, &observed, at(5)), Step::StopPlace);
    }
}

#[test]
fn a_stop_is_no_fall() {
    let (mut record, mut observed) = running();
    record.wish(Wish::Stop);
    assert_eq!(next(&record, &observed, at(1)), Step::StopProgram);
    observed.keeper = Some(exited(143, Some(15)));
    assert_eq!(next(&record, &observed, at(1)), Step::Collect);
    record.program_ended(&exited(143, Some(15)), false, at(1), &BACKOFF);
    assert_eq!(next(&record, &observed, at(1)), Step::StopPlace);
    record.place_stopped(at(1));
    observed.keeper = None;
    assert_eq!(next(&record, &observed, at(1)), Step::Sync);
    record.unsynced = false;
    assert_eq!(next(&record, &observed, at(1)), Step::Rest(None));
    assert_eq!(health(&record, &observed), Health::Stopped);
    assert!(record.falls.is_empty());
    assert_eq!(
        offered(&record, &observed),
        [Action::Start, Action::Recreate, Action::Cleanup]
    );
}

#[test]
fn what_died_from_outside_comes_back_later_each_time() {
    let (mut record, observed) = running();
    let mut clock = 0;
    for (attempt, wait) in [30, 120, 300, 300].into_iter().enumerate() {
        // Far enough apart for no crash loop, but never ten minutes up.
        clock += 500;
        assert!(record.place_seen(&seen(PlaceState::Missing), false, at(clock), &BACKOFF));
        record.falls = vec![at(clock)];
        assert_eq!(record.retry.attempts as usize, attempt);
        assert_eq!(record.retry.next_attempt, Some(at(clock + wait)));
        record.unsynced = false;
        let gone = Observed::default();
        assert_eq!(
            next(&record, &gone, at(clock + wait - 1)),
            Step::Rest(Some(at(clock + wait)))
        );
        clock += wait;
        assert_eq!(next(&record, &gone, at(clock)), Step::Revive);
        record.revive(true, at(clock));
        assert_eq!(next(&record, &gone, at(clock)), Step::CreatePlace);
        assert_eq!(health(&record, &gone), Health::Pending);
        record.place_making();
        record.place_made(json!(1), Vec::new());
        record.place_starting();
        record.starting(format!("r{attempt}"), 0, at(clock));
        record.running("machine");
    }
    assert_eq!(health(&record, &observed), Health::Healthy);
    // Ten minutes up set the count back.
    record.place_seen(&seen(PlaceState::Missing), false, at(clock + 600), &BACKOFF);
    assert_eq!(record.retry.attempts, 0);
    assert_eq!(record.retry.next_attempt, Some(at(clock + 630)));
}

#[test]
fn what_died_with_its_engine_comes_back_at_once_and_free() {
    let (mut record, mut observed) = running();
    record.place_seen(&seen(PlaceState::Exited), true, at(9), &BACKOFF);
    assert_eq!(record.retry.next_attempt, Some(at(9)));
    observed = Observed {
        unreachable: Some("down".to_owned()),
        ..observed
    };
    record.unsynced = false;
    assert_eq!(next(&record, &observed, at(10)), Step::Rest(None));
    observed.unreachable = None;
    assert_eq!(next(&record, &observed, at(10)), Step::Revive);
    record.revive(false, at(10));
    assert_eq!(record.retry.attempts, 0);
    assert!(record.falls.is_empty());
    assert_eq!(next(&record, &observed, at(10)), Step::StartPlace);
}

#[test]
fn three_falls_within_ten_minutes_are_a_crash_loop() {
    let check = |falls: [i64; 3], expected: bool| {
        let (mut record, _) = running();
        for fall in falls {
            record.desired = Desired::Running;
            record.starting("r".to_owned(), 0, at(fall - 1));
            record.running("machine");
            record.program_ended(&exited(1, None), false, at(fall), &BACKOFF);
        }
        let observed = Observed::default();
        assert_eq!(
            health(&record, &observed) == Health::CrashLoop,
            expected,
            "{falls:?}"
        );
        if expected {
            assert_eq!(
                offered(&record, &observed),
                [Action::RecreateFresh, Action::Cleanup]
            );
            record.wish(Wish::Recreate { fresh: true });
            assert_ne!(health(&record, &observed), Health::CrashLoop);
            assert!(record.falls.is_empty());
        }
    };
    check([10, 20, 30], true);
    check([10, 300, 610], true);
    check([10, 300, 611], false);
}

#[test]
fn a_crash_loop_is_not_brought_back() {
    let (mut record, _) = running();
    for fall in [10, 20, 30] {
        record.starting("r".to_owned(), 0, at(fall - 1));
        record.running("machine");
        record.program_ended(&exited(137, Some(9)), false, at(fall), &BACKOFF);
    }
    assert_eq!(record.retry.next_attempt, None);
}

#[test]
fn a_failed_creation_leaves_nothing_and_offers_recreate() {
    let mut record = Record::new("m");
    record.trees = Trees::Made;
    record.place_making();
    record.fail("no such image".to_owned(), at(1), &BACKOFF);
    let observed = Observed::default();
    assert_eq!(next(&record, &observed, at(1)), Step::DeletePlace);
    record.place_deleted(at(1));
    assert_eq!(next(&record, &observed, at(1)), Step::Rest(None));
    let seen = view(&record, &observed, Activity::Unknown);
    assert_eq!(seen.status, Status::Error);
    assert_eq!(seen.message.as_deref(), Some("no such image"));
    assert_eq!(
        offered(&record, &observed),
        [Action::Recreate, Action::RecreateFresh, Action::Cleanup]
    );
    record.wish(Wish::Recreate { fresh: false });
    assert_eq!(next(&record, &observed, at(2)), Step::CreatePlace);
}

#[test]
fn a_place_that_ends_at_once_fails_in_the_end() {
    let mut record = Record::new("m");
    record.trees = Trees::Made;
    record.place_making();
    record.place_made(json!(1), Vec::new());
    for _ in 0..3 {
        record.place_starting();
        record.place_seen(&seen(PlaceState::Exited), false, at(1), &BACKOFF);
    }
    assert!(record.failure.is_some());
}

#[test]
fn health_follows_what_is_seen() {
    let stopped = || {
        let (mut record, _) = running();
        record.wish(Wish::Stop);
        record.program_ended(&exited(0, None), false, at(1), &BACKOFF);
        record.place_stopped(at(1));
        record
    };
    let check = |record: &Record, observed: Observed, expected: Health, status: Status| {
        let seen = view(record, &observed, Activity::Unknown);
        assert_eq!((seen.health, seen.status), (expected, status));
    };
    let place = |state| Observed {
        place: Some(seen(state)),
        ..Observed::default()
    };
    check(
        &stopped(),
        place(PlaceState::Missing),
        Health::Missing,
        Status::Error,
    );
    check(
        &stopped(),
        place(PlaceState::DataLost),
        Health::DataLost,
        Status::Error,
    );
    check(
        &stopped(),
        place(PlaceState::Exited),
        Health::Stopped,
        Status::Stopped,
    );
    let no_trees = Observed {
        trees_missing: true,
        ..Observed::default()
    };
    check(
        &running().0,
        no_trees,
        Health::WorktreeMissing,
        Status::Error,
    );
    let away = || Observed {
        unreachable: Some("down".to_owned()),
        ..Observed::default()
    };
    check(&running().0, away(), Health::Unreachable, Status::Running);
    check(&stopped(), away(), Health::Unreachable, Status::Stopped);
    let mut deleting = running().0;
    deleting.wish(Wish::Delete { force: false });
    check(&deleting, away(), Health::Pending, Status::Deleting);
    let mut archived = stopped();
    archived.wish(Wish::Archive);
    check(&archived, away(), Health::Stopped, Status::Archived);
}

#[test]
fn a_stop_right_after_recreate_leaves_a_session_that_can_be_started() {
    let (mut record, _) = running();
    record.wish(Wish::Recreate { fresh: false });
    record.wish(Wish::Stop);
    record.place_stopped(at(1));
    let observed = Observed::default();
    assert_eq!(health(&record, &observed), Health::Stopped);
    assert!(offered(&record, &observed).contains(&Action::Start));
}

#[test]
fn wishes_are_granted_as_the_table_says() {
    let (record, observed) = running();
    let check = |record: &Record, observed: &Observed, wish, expected: Permit| {
        assert_eq!(
            permit(record, observed, Offers::default(), wish),
            expected,
            "{wish:?}"
        );
    };
    check(&record, &observed, Wish::Start, Permit::Already);
    check(&record, &observed, Wish::Stop, Permit::Granted);
    check(&record, &observed, Wish::Unarchive, Permit::Already);
    let mut failed = Record::new("m");
    failed.trees = Trees::Made;
    failed.fail("x".to_owned(), at(1), &BACKOFF);
    check(
        &failed,
        &observed,
        Wish::Start,
        Permit::NotOnOffer(
            Action::Start,
            vec![Action::Recreate, Action::RecreateFresh, Action::Cleanup],
        ),
    );
    check(&failed, &observed, Wish::Stop, Permit::Already);
    let mut archived = record.clone();
    archived.wish(Wish::Archive);
    check(&archived, &observed, Wish::Archive, Permit::Already);
    check(
        &archived,
        &observed,
        Wish::Cleanup,
        Permit::NotOnOffer(Action::Cleanup, vec![]),
    );
    check(&archived, &observed, Wish::Unarchive, Permit::Granted);
    let away = Observed {
        unreachable: Some("down".to_owned()),
        ..Observed::default()
    };
    check(
        &record,
        &away,
        Wish::Delete { force: false },
        Permit::Unreachable,
    );
    check(
        &record,
        &away,
        Wish::Delete { force: true },
        Permit::Granted,
    );
    let mut deleting = record.clone();
    deleting.wish(Wish::Delete { force: true });
    deleting.wish(Wish::Delete { force: false });
    assert_eq!(deleting.desired, Desired::Deleted { force: true });
    assert!(matches!(
        permit(&deleting, &observed, Offers::default(), Wish::Start),
        Permit::Refused(_)
    ));
}

/// The program of a place's keeper and its run; `None` while the keeper does not run.
type Keeper = Option<(String, ProgramState)>;

/// A session and the world around it.
#[derive(Debug)]
struct World {
    clock: i64,
    record: Record,
    observed: Observed,
    /// The place on the backend: its keeper's program and run, when its keeper runs.
    place: Option<Keeper>,
    trees: bool,
    runs: u32,
    forgotten: bool,
}

/// How an act comes out.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Good,
    /// It fails, and nothing was done.
    Fails,
    /// It fails, but was done.
    FailsDone,
    /// The server is killed before the act, or after it and before it is stored.
    KilledBefore,
    KilledAfter,
}

#[derive(Debug, Clone, Copy)]
enum Chance {
    Step(Luck),
    Wish(Wish),
    ProgramEnds(i32, Option<i32>),
    PlaceGoes,
    KeeperDies,
    ConnectionBreaks,
    EngineAway(bool),
    TreesGo,
    TimePasses(i64),
}

impl World {
    fn new() -> Self {
        Self {
            clock: 0,
            record: Record::new("m"),
            observed: Observed::default(),
            place: None,
            trees: false,
            runs: 0,
            forgotten: false,
        }
    }

    fn now(&self) -> Timestamp {
        at(self.clock)
    }

    /// The next server knows only what was stored.
    fn restart(&mut self) {
        let unreachable = self.observed.unreachable.take();
        self.observed = Observed {
            unreachable,
            ..Observed::default()
        };
        self.look();
    }

    /// The task looks at what became of place and trees.
    fn look(&mut self) {
        self.observed.trees_missing = self.record.trees == Trees::Made && !self.trees;
        if self.observed.unreachable.is_some() {
            return;
        }
        let state = match &self.place {
            None => PlaceState::Missing,
            Some(None) => PlaceState::Exited,
            Some(Some(_)) => PlaceState::Running,
        };
        let now = self.now();
        let inspection = seen(state);
        if self.record.place_seen(&inspection, false, now, &BACKOFF) {
            self.observed.keeper = None;
        }
        self.observed.place = Some(inspection);
    }

    fn hear(&mut self) {
        if self.observed.keeper.is_some() {
            match &self.place {
                Some(Some((run, program))) => {
                    self.observed.keeper = Some(program.clone());
                    self.observed.keeper_run.clone_from(run);
                }
                _ => self.observed.keeper = None,
            }
        }
    }

    fn chance(&mut self, chance: Chance) {
        if self.forgotten {
            return;
        }
        match chance {
            Chance::Step(luck) => {
                let step = next(&self.record, &self.observed, self.now());
                self.perform(step, luck);
            }
            Chance::Wish(wish) => {
                let permit = permit(&self.record, &self.observed, Offers::default(), wish);
                if permit == Permit::Granted {
                    self.record.wish(wish);
                }
            }
            Chance::ProgramEnds(code, signal) => {
                if let Some(Some((_, program @ ProgramState::Running { .. }))) = &mut self.place {
                    *program = exited(code, signal);
                }
                self.hear();
            }
            Chance::PlaceGoes => {
                self.place = None;
                self.observed.keeper = None;
                self.look();
            }
            Chance::KeeperDies => {
                if let Some(keeper) = &mut self.place {
                    *keeper = None;
                }
                self.observed.keeper = None;
                self.look();
            }
            Chance::ConnectionBreaks => {
                self.observed.keeper = None;
                self.look();
            }
            Chance::EngineAway(away) => {
                self.observed.unreachable = away.then(|| "down".to_owned());
                self.look();
            }
            Chance::TreesGo => {
                self.trees = false;
                self.look();
            }
            Chance::TimePasses(seconds) => self.clock += seconds,
        }
        self.check();
    }

    /// What holds at any time.
    fn check(&self) {
        let view = view(&self.record, &self.observed, Activity::Unknown);
        let expected = match view.health {
            _ if matches!(self.record.desired, Desired::Deleted { .. }) => Some(Status::Deleting),
            _ if view.status == Status::Archived => Some(Status::Archived),
            Health::Pending => Some(Status::Starting),
            Health::Healthy => Some(Status::Running),
            Health::Stopped => Some(Status::Stopped),
            Health::Unreachable => None,
            _ => Some(Status::Error),
        };
        if let Some(expected) = expected {
            assert_eq!(view.status, expected, "{self:?}");
        }
        if self.record.is_alive() {
            assert!(
                matches!(self.record.place, Place::Up),
                "what runs has a place: {self:?}"
            );
        }
    }

    /// What the task does in a step, as `steps` has it.
    fn perform(&mut self, step: Step, luck: Luck) {
        let now = self.now();
        // The intent is stored before the act.
        match step {
            Step::MakeTrees => self.record.trees = Trees::Making,
            Step::CreatePlace => self.record.place_making(),
            Step::StartPlace => self.record.place_starting(),
            Step::StartProgram if !self.record.is_alive() => {
                self.runs += 1;
                let id = format!("r{}", self.runs);
                self.record.starting(id, 0, now);
            }
            _ => {}
        }
        match luck {
            Luck::Good => {
                self.act(step);
                self.done(step);
            }
            Luck::Fails => self.failed(step),
            Luck::FailsDone => {
                self.act(step);
                self.failed(step);
            }
            Luck::KilledBefore => self.restart(),
            Luck::KilledAfter => {
                self.act(step);
                self.restart();
            }
        }
        self.hear();
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::MakeTrees | Step::ResetTrees => self.trees = true,
            Step::RemoveTrees => self.trees = false,
            Step::CreatePlace => self.place = self.place.take().or(Some(None)),
            Step::StartPlace => {
                if let Some(keeper @ None) = &mut self.place {
                    *keeper = Some((String::new(), ProgramState::Waiting));
                }
            }
            Step::StartProgram => {
                let run = self.record.run.as_ref().unwrap().id.clone();
                if let Some(Some(keeper)) = &mut self.place
                    && keeper.1 == ProgramState::Waiting
                {
                    *keeper = (run, ProgramState::Running { pid: 1 });
                }
            }
            Step::StopProgram => {
                if let Some(Some((_, program))) = &mut self.place {
                    *program = exited(143, Some(15));
                }
            }
            Step::StopPlace => {
                if let Some(keeper) = &mut self.place {
                    *keeper = None;
                }
            }
            Step::DeletePlace => self.place = None,
            _ => {}
        }
    }

    fn done(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::MakeTrees => {
                self.record.trees = Trees::Made;
                self.record.repositories = Vec::<MadeTree>::new();
                self.record.fresh = false;
            }
            Step::ResetTrees => self.record.fresh = false,
            Step::CreatePlace => self.record.place_made(json!(1), Vec::new()),
            Step::StartPlace => {
                if self.place.is_none() {
                    self.failed(step);
                } else {
                    self.observed.connect_failures = 0;
                }
            }
            Step::Connect => match &self.place {
                Some(Some((run, program))) => {
                    self.observed.keeper = Some(program.clone());
                    self.observed.keeper_run.clone_from(run);
                    self.observed.connect_failures = 0;
                }
                _ => self.failed(step),
            },
            Step::StartProgram => {
                let run = self.record.run.as_ref().unwrap().id.clone();
                match &self.place {
                    Some(Some((held, _))) if *held == run => {
                        self.record.running("m");
                        if self.record.prompt == Prompt::Waiting {
                            self.record.prompt = Prompt::Typing;
                        }
                    }
                    Some(Some(_)) => {
                        self.place = Some(None);
                        self.observed.keeper = None;
                        self.record.run = None;
                        self.record.place = Place::Down;
                    }
                    _ => self.failed(step),
                }
            }
            Step::TypePrompt => self.record.prompt = Prompt::Given,
            Step::Collect => {
                let program = self.observed.keeper.clone().unwrap();
                self.record.program_ended(&program, false, now, &BACKOFF);
            }
            Step::StopPlace => {
                self.observed.keeper = None;
                self.record.place_stopped(now);
            }
            Step::DeletePlace => {
                self.observed.keeper = None;
                self.record.place_deleted(now);
            }
            Step::Sync => self.record.unsynced = self.record.is_alive(),
            Step::RemoveTrees => {
                self.record.trees = Trees::Absent;
                self.record.unsynced = false;
            }
            Step::Forget => self.forgotten = true,
            Step::Revive => self.record.revive(self.place.is_none(), now),
            Step::StopProgram => {}
            Step::Rest(until) => {
                if let Some(until) = until {
                    self.clock = self.clock.max(until.as_second() - at(0).as_second());
                }
            }
        }
        self.observed.trees_missing = self.record.trees == Trees::Made && !self.trees;
    }

    fn failed(&mut self, step: Step) {
        let now = self.now();
        match (step, self.record.desired) {
            (Step::Rest(_) | Step::Forget, _) => {}
            (Step::DeletePlace, Desired::Deleted { force: true }) => {
                self.place = None;
                self.record.place_deleted(now);
            }
            (Step::RemoveTrees, Desired::Deleted { force: true }) => {
                self.trees = false;
                self.record.trees = Trees::Absent;
            }
            (_, Desired::Deleted { .. }) => self.record.desired = Desired::Stopped,
            (Step::Sync, _) => self.record.unsynced = false,
            (Step::Connect, _) => {
                self.observed.connect_failures += 1;
                self.look();
            }
            (Step::StopProgram | Step::Collect | Step::TypePrompt, _) => {
                self.observed.keeper = None;
            }
            (step, Desired::Running) if !matches!(step, Step::StopPlace | Step::DeletePlace) => {
                if step == Step::StartPlace {
                    self.look();
                }
                self.record.fail("bad luck".to_owned(), now, &BACKOFF);
            }
            _ => {}
        }
    }

    /// From now on nothing goes wrong; time passes.
    fn settle(&mut self) {
        self.observed.unreachable = None;
        self.look();
        for _ in 0..60 {
            if self.forgotten {
                return;
            }
            let step = next(&self.record, &self.observed, self.now());
            if step == Step::Rest(None) {
                return;
            }
            self.perform(step, Luck::Good);
            self.check();
        }
        panic!("it does not come to rest: {self:?}");
    }
}

fn chances() -> impl Strategy<Value = Chance> {
    let luck = prop_oneof![
        6 => Just(Luck::Good),
        1 => Just(Luck::Fails),
        1 => Just(Luck::FailsDone),
        1 => Just(Luck::KilledBefore),
        1 => Just(Luck::KilledAfter),
    ];
    let wish = prop_oneof![
        Just(Wish::Start),
        Just(Wish::Stop),
        any::<bool>().prop_map(|fresh| Wish::Recreate { fresh }),
        Just(Wish::Archive),
        Just(Wish::Unarchive),
        Just(Wish::Cleanup),
        any::<bool>().prop_map(|force| Wish::Delete { force }),
    ];
    prop_oneof![
        12 => luck.prop_map(Chance::Step),
        2 => wish.prop_map(Chance::Wish),
        1 => prop_oneof![
            Just(Chance::ProgramEnds(0, None)),
            Just(Chance::ProgramEnds(3, None)),
            Just(Chance::ProgramEnds(137, Some(9))),
        ],
        1 => Just(Chance::PlaceGoes),
        1 => Just(Chance::KeeperDies),
        1 => Just(Chance::ConnectionBreaks),
        1 => any::<bool>().prop_map(Chance::EngineAway),
        1 => Just(Chance::TreesGo),
        1 => (1_i64..700).prop_map(Chance::TimePasses),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_happens_a_session_comes_to_rest_as_wanted(
        life in prop::collection::vec(chances(), 0..80),
    ) {
        let mut world = World::new();
        for chance in life {
            world.chance(chance);
        }
        world.settle();
        let place_runs = matches!(world.place, Some(Some((_, ProgramState::Running { .. }))));
        if world.forgotten {
            prop_assert!(world.place.is_none() && !world.trees, "left behind: {world:?}");
        } else {
            match world.record.desired {
                Desired::Running => {
                    let at_rest = world.record.failure.is_some() || world.record.ended().is_some();
                    prop_assert!(at_rest || place_runs, "{world:?}");
                    prop_assert!(!world.record.rebuild, "{world:?}");
                }
                Desired::Stopped => prop_assert!(!place_runs, "{world:?}"),
                Desired::Archived => prop_assert!(world.place.is_none(), "{world:?}"),
                Desired::Cleaned => {
                    prop_assert!(world.place.is_none() && !world.trees, "{world:?}");
                }
                Desired::Deleted { .. } => prop_assert!(false, "not deleted: {world:?}"),
            }
        }
    }

    #[test]
    fn a_delete_always_leaves_nothing(life in prop::collection::vec(chances(), 0..60)) {
        let mut world = World::new();
        for chance in life {
            world.chance(chance);
        }
        world.observed.unreachable = None;
        world.chance(Chance::Wish(Wish::Delete { force: true }));
        world.settle();
        prop_assert!(world.forgotten, "{world:?}");
        prop_assert!(world.place.is_none() && !world.trees, "left behind: {world:?}");
    }
}
