//! The harness of the end-to-end tests: the real server, with the real plugins and the real keeper, in folders of its own.
//!
//! [`TestHost::start`] runs `berth serve` on a free port. A test speaks to it as any client does: [`TestHost::get`] and
//! its like for HTTP, [`Events`] and [`Console`] for the sockets. [`TestHost::kill_9`] and [`TestHost::restart`] are what
//! it must survive, and [`TestHost::assert_nothing_left`] what it must leave behind.
//!
//! Waits are level-triggered with a limit ([`eventually`]), and say what they saw last.

mod console;
mod events;
mod host;
mod layout;
mod leak;
mod libraries;
mod repository;
mod session;
mod wait;

pub use console::{Console, Control};
pub use events::Events;
pub use host::{Answer, Settings, TestHost};
pub use layout::Layout;
pub use leak::{Leftover, processes_with};
pub use libraries::Libraries;
pub use repository::Repository;
pub use session::TestSession;
pub use wait::{LIMIT, eventually, within};

/// The code in the guide for authors of plugins compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/plugins.md")]
pub struct PluginGuide;
