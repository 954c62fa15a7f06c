//! The berth server: what stands between its HTTP interface and the plugins that run sessions.
//!
//! `ARCHITECTURE.md` at the root of the repository is the map.

pub mod app;
pub mod cli;
pub mod config;
pub mod console;
pub mod db;
pub mod driver;
pub mod event;
pub mod files;
pub mod git;
pub mod http;
pub mod keeper;
pub mod plugin;
pub mod session;
pub mod telemetry;
