//! What the world sees of a session: worked out in this one place from what is wanted, what was done and what is seen.

use super::record::{Cause, Desired, Place, Record, RunState, Trees};
use super::state::{Observed, Wish};
use super::{Action, Activity, Health, Status};
use berth_plugin_api::doc::PlaceState;
use std::collections::BTreeMap;

/// What the world sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) status: Status,
    pub(crate) activity: Activity,
    pub(crate) health: Health,
    /// Why, in one sentence.
    pub(crate) message: Option<String>,
}

/// What of a backend decides about the actions on offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    /// It has `refresh`.
    pub(crate) refresh: bool,
}

/// Status, health and the reason.
pub(crate) fn view(record: &Record, observed: &Observed, activity: Activity) -> View {
    let (within, within_message) = condition(record, observed);
    let settled = matches!(
        record.desired,
        Desired::Archived | Desired::Cleaned | Desired::Deleted { .. }
    );
    let (health, message) = match &observed.unreachable {
        Some(reason) if !settled && needs_backend(record) => (
            Health::Unreachable,
            Some(format!("the backend does not answer: {reason}")),
        ),
        _ => (within, within_message),
    };
    let status = match record.desired {
        Desired::Deleted { .. } => Status::Deleting,
        Desired::Archived | Desired::Cleaned => Status::Archived,
        Desired::Running | Desired::Stopped => match within {
            Health::Pending => Status::Starting,
            Health::Healthy => Status::Running,
            Health::Stopped => Status::Stopped,
            _ => Status::Error,
        },
    };
    let activity = if status == Status::Running {
        activity
    } else {
        Activity::Unknown
    };
    View {
        status,
        activity,
        health,
        message,
    }
}

/// Its place stands or is to be made: without its backend it cannot go on.
fn needs_backend(record: &Record) -> bool {
    record.place != Place::Absent
        || (record.desired == Desired::Running && record.failure.is_none())
}

/// Health and the reason, as if the backend answered.
fn condition(record: &Record, observed: &Observed) -> (Health, Option<String>) {
    let told = |text: &str| Some(text.to_owned());
    match record.desired {
        Desired::Deleted { .. } => return (Health::Pending, told("the session is being deleted")),
        Desired::Archived => return (Health::Stopped, told("the session is archived")),
        Desired::Cleaned => {
            return (
                Health::Stopped,
                told("the session is archived and was cleaned up"),
            );
        }
        Desired::Running | Desired::Stopped => {}
    }
    if record.rebuild && record.desired == Desired::Running {
        return (Health::Pending, told("the session is being recreated"));
    }
    if record.in_crash_loop() && !record.is_alive() {
        let last = record
            .failure
            .as_deref()
            .or_else(|| record.ended().map(|ended| ended.message.as_str()));
        let message = match last {
            Some(last) => format!("ended three times within ten minutes; the last time: {last}"),
            None => "ended three times within ten minutes".to_owned(),
        };
        return (Health::CrashLoop, Some(message));
    }
    if let Some(failure) = &record.failure {
        return (Health::Error, Some(failure.clone()));
    }
    if record.trees == Trees::Made && observed.trees_missing {
        return (
            Health::WorktreeMissing,
            told("the worktree is gone; the branch is still there"),
        );
    }
    if matches!(record.place, Place::Down | Place::Up) && !is_running(record) {
        match observed.place.as_ref().map(|place| place.state) {
            Some(PlaceState::Missing) => {
                return (
                    Health::Missing,
                    told("the session's place is gone from the backend"),
                );
            }
            Some(PlaceState::DataLost) => {
                return (
                    Health::DataLost,
                    told("the session's place and its data are gone from the backend"),
                );
            }
            _ => {}
        }
    }
    if let Some(ended) = record.ended() {
        let given_up = record.desired == Desired::Stopped
            && matches!(ended.cause, Cause::Outside | Cause::Away);
        let stopped = ended.cause == Cause::Asked || ended.code == Some(0) || given_up;
        let health = if stopped {
            Health::Stopped
        } else {
            Health::Error
        };
        return (health, Some(ended.message.clone()));
    }
    if is_running(record) {
        return (Health::Healthy, record.warnings.first().cloned());
    }
    if record.desired == Desired::Stopped && record.place != Place::Up {
        return (Health::Stopped, told("the session was stopped"));
    }
    (Health::Pending, None)
}

fn is_running(record: &Record) -> bool {
    record
        .run
        .as_ref()
        .is_some_and(|run| run.state == RunState::Running)
}

/// What may be done about the session, and whether chat, commits and uncommitted work all stay over it.
pub(crate) fn actions(record: &Record, health: Health, offers: Offers) -> BTreeMap<Action, bool> {
    let list: &[Action] = match record.desired {
        Desired::Deleted { .. } | Desired::Archived => &[],
        Desired::Cleaned => &[Action::RecreateFresh],
        Desired::Running | Desired::Stopped => match health {
            Health::Healthy => &[
                Action::Recreate,
                Action::RecreateFresh,
                Action::Cleanup,
                Action::Refresh,
            ],
            Health::Stopped => &[Action::Start, Action::Recreate, Action::Cleanup],
            Health::Error | Health::Missing => {
                &[Action::Recreate, Action::RecreateFresh, Action::Cleanup]
            }
            Health::CrashLoop | Health::DataLost => &[Action::RecreateFresh, Action::Cleanup],
            Health::WorktreeMissing => &[Action::Recreate, Action::Cleanup],
            Health::Pending | Health::Unreachable => &[],
        },
    };
    list.iter()
        .copied()
        .filter(|action| *action != Action::Refresh || offers.refresh)
        .map(|action| {
            let kept = match action {
                Action::Start | Action::Refresh => true,
                Action::Recreate => health != Health::WorktreeMissing,
                Action::RecreateFresh | Action::Cleanup => false,
            };
            (action, kept)
        })
        .collect()
}

/// Whether a wish is granted in the session's present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Permit {
    Granted,
    /// It is so already.
    Already,
    /// This is not on offer; that is.
    NotOnOffer(Action, Vec<Action>),
    Refused(&'static str),
    /// The backend does not answer.
    Unreachable,
}

/// Whether a wish is granted.
pub(crate) fn permit(record: &Record, observed: &Observed, offers: Offers, wish: Wish) -> Permit {
    let health = view(record, observed, Activity::Unknown).health;
    let offered = actions(record, health, offers);
    let on_offer = |action: Action| {
        if offered.contains_key(&action) {
            Permit::Granted
        } else {
            Permit::NotOnOffer(action, offered.keys().copied().collect())
        }
    };
    if matches!(record.desired, Desired::Deleted { .. }) && !matches!(wish, Wish::Delete { .. }) {
        return Permit::Refused("the session is being deleted");
    }
    let archived = matches!(record.desired, Desired::Archived | Desired::Cleaned);
    match wish {
        Wish::Delete { force: false } | Wish::Archive
            if observed.unreachable.is_some() && record.place != Place::Absent =>
        {
            Permit::Unreachable
        }
        Wish::Archive if archived => Permit::Already,
        Wish::Delete { .. } | Wish::Archive => Permit::Granted,
        Wish::Unarchive => match record.desired {
            Desired::Archived => Permit::Granted,
            Desired::Cleaned => Permit::NotOnOffer(Action::Start, vec![Action::RecreateFresh]),
            _ => Permit::Already,
        },
        Wish::Start => {
            let coming = record.desired == Desired::Running
                && record.failure.is_none()
                && record.ended().is_none();
            if coming {
                Permit::Already
            } else {
                on_offer(Action::Start)
            }
        }
        Wish::Stop => {
            let running = record.desired == Desired::Running
                && (record.failure.is_none() || record.retry.next_attempt.is_some());
            let stopping = record.desired == Desired::Stopped && record.place == Place::Up;
            if running || stopping {
                Permit::Granted
            } else {
                Permit::Already
            }
        }
        Wish::Recreate { fresh: false } => on_offer(Action::Recreate),
        Wish::Recreate { fresh: true } => on_offer(Action::RecreateFresh),
        Wish::Cleanup if record.desired == Desired::Cleaned => Permit::Already,
        Wish::Cleanup => on_offer(Action::Cleanup),
    }
}
