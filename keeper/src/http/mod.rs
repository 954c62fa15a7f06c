//! The keeper's side of the protocol: connections, requests, answers.

mod answer;
mod query;
mod refusal;
mod route;
mod server;

pub(crate) use answer::{Answer, Gone};
pub(crate) use query::Query;
pub(crate) use refusal::{Refusal, code};
pub(crate) use route::next;
pub(crate) use server::serve;
