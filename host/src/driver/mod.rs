//! The host's side of loaded plugins: how the rest of the server calls them.
//!
//! A driver stands before one opened plugin, wherever its code runs. It encodes the call, keeps its time limit, turns a
//! panic or a lost plugin into an error, and refuses quickly while the plugin keeps failing ([`DriverHealth::Degraded`]).
//! All errors are [`berth_plugin_api::Error`]; one that says `may_have_happened` leaves open whether the work was done.
//! Every call may be dropped at any await: the plugin's work is then aborted at its next await.
//!
//! Rules: nothing here knows a plugin by name; a plugin that hangs holds up its own callers only, and each of those
//! only until its time limit.

mod agent;
mod backend;
mod call;
mod document;
mod host_side;
mod info;
mod linked;
mod open;
mod stream;
mod watchdog;
mod workers;

pub use call::Call;
pub(crate) use host_side::{Listeners, host_for};
pub use info::{DriverHealth, Drivers, Isolation, PluginInfo, PluginKind, RefusedPlugin};
pub use linked::{linked_agent, linked_backend};
pub(crate) use open::{Reset, agent_of, backend_of};
pub(crate) use stream::stream_of;

use async_trait::async_trait;
use berth_plugin_api::doc::{
    AgentDescription, AgentEvent, BackendDescription, CreateRequest, DecoderRequest, DeleteRequest,
    Deleted, DeliverRequest, Delivery, Inspection, LaunchPlan, LaunchRequest, ListRequest, Place,
    PlaceRequest, Places, Probe, RefreshRequest, Refreshed, StopRequest, WatchEvent, WatchRequest,
};
use berth_plugin_api::{Result, Stream};
use serde_json::Value;
use std::fmt::Debug;
use std::time::Duration;
use tokio::sync::mpsc;

/// An opened backend. The operations are those of [`berth_plugin_api::Backend`], with its promises.
#[async_trait]
pub trait BackendDriver: Debug + Send + Sync {
    /// Which plugin it is.
    fn info(&self) -> &PluginInfo;

    /// What it can do.
    fn description(&self) -> &BackendDescription;

    /// Whether calls are let through now.
    fn health(&self) -> DriverHealth;

    /// Whether sessions can be made now.
    async fn probe(&self, call: Call) -> Result<Probe>;

    /// Makes a place and starts nothing in it.
    async fn create(&self, call: Call, request: &CreateRequest) -> Result<Place>;

    /// Starts the keeper in a place.
    async fn start(&self, call: Call, request: &PlaceRequest) -> Result<()>;

    /// Ends what runs in a place. The time limit has to be longer than the request's grace.
    async fn stop(&self, call: Call, request: &StopRequest) -> Result<()>;

    /// Removes a place.
    async fn delete(&self, call: Call, request: &DeleteRequest) -> Result<Deleted>;

    /// Says what a place is doing.
    async fn inspect(&self, call: Call, request: &PlaceRequest) -> Result<Inspection>;

    /// Lists the places of an installation.
    async fn list(&self, call: Call, request: &ListRequest) -> Result<Places>;

    /// Pulls the session's image and makes the place anew when it has changed.
    async fn refresh(&self, call: Call, request: &RefreshRequest) -> Result<Refreshed>;

    /// Opens a new byte stream to the keeper in a place. The time limit is for the opening; the stream has none.
    async fn connect(&self, call: Call, request: &PlaceRequest) -> Result<Stream>;

    /// Changes of places, until the receiver is dropped. When the channel closes by itself, watching has ended: list
    /// and watch again. The time limit is for the opening.
    async fn watch(&self, call: Call, request: &WatchRequest)
    -> Result<mpsc::Receiver<WatchEvent>>;

    /// Tells the plugin that the host is about to end, and waits for it no longer than `grace`. Sessions go on running.
    async fn shutdown(&self, grace: Duration);
}

/// An opened agent. The operations are those of [`berth_plugin_api::Agent`]; each has a few seconds.
#[async_trait]
pub trait AgentDriver: Debug + Send + Sync {
    /// Which plugin it is.
    fn info(&self) -> &PluginInfo;

    /// What it can do.
    fn description(&self) -> &AgentDescription;

    /// Whether calls are let through now.
    fn health(&self) -> DriverHealth;

    /// How to start the program.
    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan>;

    /// How to say something to the running program.
    async fn deliver(&self, request: &DeliverRequest) -> Result<Delivery>;

    /// A reader of the agent's records, new or with the state of an earlier one.
    async fn decoder(&self, request: &DecoderRequest) -> Result<Box<dyn DecoderDriver>>;
}

/// One reader of an agent's records. After an error it is of no use any more: make a new one from the last state.
#[async_trait]
pub trait DecoderDriver: Debug + Send {
    /// Takes more of source number `source` and tells what it means.
    async fn feed(&mut self, source: u32, input: &[u8]) -> Result<Vec<AgentEvent>>;

    /// All that another decoder needs to go on from here.
    async fn state(&mut self) -> Result<Value>;
}

#[cfg(test)]
mod tests;
