//! Children: ours, and orphans that come to us.

use crate::sys::{Ending, reap_any};
use std::cell::RefCell;
use std::collections::HashMap;
use tokio::sync::{Notify, oneshot};

/// The one place that waits for processes, so that no status is taken by somebody else. (Rust's own `spawn` waits for a
/// child that could not be executed, but before it returns, and everything here is on one thread.)
#[derive(Debug, Default)]
pub(crate) struct Children {
    ours: RefCell<HashMap<i32, oneshot::Sender<Ending>>>,
    /// Told when anything was reaped.
    pub(crate) reaped: Notify,
}

impl Children {
    /// Waits for a child that was just spawned: before anything is awaited, lest it be reaped unknown.
    pub(crate) fn adopt(&self, pid: i32) -> oneshot::Receiver<Ending> {
        let (ended, ending) = oneshot::channel();
        self.ours.borrow_mut().insert(pid, ended);
        ending
    }

    /// It has not been reaped: its process id is still its own.
    pub(crate) fn is_ours(&self, pid: i32) -> bool {
        self.ours.borrow().contains_key(&pid)
    }

    /// Reaps all that have ended. To be called at each SIGCHLD.
    pub(crate) fn reap(&self) {
        let mut any = false;
        while let Some((pid, ending)) = reap_any() {
            any = true;
            if let Some(ended) = self.ours.borrow_mut().remove(&pid) {
                ended.send(ending).ok();
            }
        }
        if any {
            self.reaped.notify_waiters();
        }
    }
}
