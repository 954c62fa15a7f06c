//! A plugin in a process of its own: `isolation = "process"`.
//!
//! The server runs itself as `berth plugin-host FILE`, with one end of a socket as its standard input, and speaks HTTP/2
//! on it: a request per operation with the operation's document as its body, so that calls run at once, a call that is
//! given up is a stream that is reset, and the plugin's byte streams come with flow control. On the server's side stand
//! [`proxy`]'s implementations of the very frozen types that a library in this process has, so that the drivers do not know the
//! difference. A crash of the process is an error of the calls that were under way, and the next call starts it anew.
//!
//! It contains faults: a segmentation fault, an abort, a leak, a hang. It is no sandbox: the process has the rights of
//! the server's user.

mod process;
mod proxy;
mod serve;
mod wire;

pub(super) use process::{Launch, Process};
pub(super) use proxy::{AgentProxy, BackendProxy};
pub use serve::serve;
