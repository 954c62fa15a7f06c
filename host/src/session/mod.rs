//! Sessions: what a user asked for, what is true, and the one task that makes them agree.
//!
//! [`Sessions`] is what the rest of the server knows (`sessions`). A request is checked (`create`), stored (`store`), and
//! handed to the session's own task (`task`), which asks the pure rules what to do next (`state`), does it (`steps`,
//! `launch`) and stores what has become of it together with the events that tell it. What the world sees is worked out in
//! one place (`view`). A monitor stands beside each backend (`monitor`).
//!
//! Rules: only its task writes a session's record; every intent is stored before it is acted on, and every act can be
//! done again, so that after the server is killed at any instant the next start finishes or undoes what was begun; a
//! backend that hangs holds up its own sessions only.
//!
//! A deleted session's row and events stay for a day, so that a subscriber who was away still hears `session_deleted`;
//! its name is free at once.

mod create;
mod error;
mod folder;
mod handle;
mod id;
mod launch;
mod model;
mod monitor;
mod record;
mod request;
mod sessions;
mod settings;
mod shared;
mod state;
mod steps;
mod store;
mod task;
mod view;

pub use error::SessionError;
pub use id::{InvalidSessionName, SessionId, SessionKey, SessionName};
pub use model::{
    Action, Activity, ChatRow, EnvShown, Health, HealthDetails, HealthReport, Reconciliation, Role,
    Session, SessionRepository, SessionSummary, Status,
};
pub use monitor::BackendState;
pub use request::{
    Accepted, Created, EnvValue, ListFilter, MarkedEnv, Metadata, MetadataChange, NewRepository,
    NewResources, NewSession, Page, RecreatePreservation, Recreation, Removal, SyncedBranch,
};
pub use sessions::{AllSubscription, SessionParts, Sessions};
pub use settings::{AUTO_BACKEND, HostUser, Limits, SessionSettings};

type Result<T, E = SessionError> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
