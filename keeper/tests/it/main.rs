//! The real keeper, by the host's own client.

mod lifetime;
mod terminal;
mod world;
