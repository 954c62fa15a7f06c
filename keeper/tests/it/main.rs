//! The real keeper, by the host's own client.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exec;
mod file;
mod flood;
mod follow;
mod lifetime;
mod terminal;
mod tree;
mod wire;
mod world;
