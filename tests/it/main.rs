//! The end-to-end tests, one program: the real server, real plugins, real sessions.
//!
//! `main_line` what berth is for · `lifecycle` stop, start, ends, work · `console` `events` the sockets · `guard` hosts and
//! origins · `many` sessions and output · `soak` what must survive · `wrong` what is answered to bad input · `reference`
//! the examples of the API reference · `backends` what each backend promises · `third_party` one from outside ·
//! `plugin_door` libraries, good and bad · `command_line` what a person types · `streams` over plain HTTP
#![expect(
    clippy::unwrap_used,
    reason = "a test that finds something else than it needs has failed"
)]

mod backends;
mod command_line;
mod console;
mod events;
mod guard;
mod lifecycle;
mod main_line;
mod many;
mod plugin_door;
mod reference;
mod soak;
mod streams;
mod third_party;
mod wrong;
