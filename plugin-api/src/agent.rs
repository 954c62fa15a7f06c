//! What the author of an agent implements.

use crate::Result;
use crate::doc::{
    AgentDescription, AgentEvent, DecoderRequest, DeliverRequest, Delivery, LaunchPlan,
    LaunchRequest, OpenRequest,
};
use serde_json::Value;

/// One program that runs inside sessions: how to start it, how to talk to it, how to read its own records.
///
/// An agent does no I/O: it answers with plans, and the host acts on them through the keeper. So all of its
/// operations are plain functions that return at once.
pub trait Agent: Sized + Send + Sync + 'static {
    /// What reads this agent's records.
    type Decoder: Decoder;

    /// What it can do. Called before `open`, without configuration.
    fn describe() -> AgentDescription;

    /// Opens the plugin.
    ///
    /// # Errors
    /// The configuration is wrong; the plugin is then listed as refused, with the message.
    fn open(request: OpenRequest) -> Result<Self>;

    /// How to start the program.
    ///
    /// # Errors
    /// The session's options do not go together; the message says which.
    fn launch(&self, request: LaunchRequest) -> Result<LaunchPlan>;

    /// How to say something to the running program.
    ///
    /// # Errors
    /// This cannot be said to it.
    fn deliver(&self, request: DeliverRequest) -> Result<Delivery>;

    /// A reader of the agent's records, new or with the state of an earlier one.
    ///
    /// # Errors
    /// The state is not one of this agent's.
    fn decoder(&self, request: DecoderRequest) -> Result<Self::Decoder>;
}

/// Folds an agent's records into events. Fed with the same input it gives the same events, wherever the input is cut.
pub trait Decoder: Send + 'static {
    /// Takes more of source number `source` and tells what it means. Never fails: what it does not know it passes over.
    fn feed(&mut self, source: u32, input: &[u8]) -> Vec<AgentEvent>;

    /// All that another decoder needs to go on from here.
    fn state(&self) -> Value;
}

/// The decoder of an agent that keeps no records.
#[derive(Debug, Default)]
pub struct NoRecords;

impl Decoder for NoRecords {
    fn feed(&mut self, _source: u32, _input: &[u8]) -> Vec<AgentEvent> {
        Vec::new()
    }

    fn state(&self) -> Value {
        Value::Null
    }
}
