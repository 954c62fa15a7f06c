//! The end-to-end tests, one program: the real server, real plugins, real sessions.
//!
//! `backends` what each backend promises · `guard` hosts and origins · `plugin_door` libraries, good and bad ·
//! `third_party` a backend from outside
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds something else than it needs has failed"
)]

mod backends;
mod guard;
mod plugin_door;
mod third_party;
