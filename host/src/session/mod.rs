//! Sessions: what a user asked for, what is true, and the one task that makes them agree.

mod id;

pub use id::{InvalidSessionName, SessionId, SessionName};
