//! What all parts of the keeper share.

use crate::arguments::Settings;
use crate::children::Children;
use crate::exec::Exec;
use crate::output::Output;
use crate::program::Current;
use crate::tree;
use berth_keeper_protocol::{Hello, PROTOCOL, Status};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The keeper's whole state. Everything is on one thread; no borrow is held across an await.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) settings: Settings,
    pub(crate) hello: Hello,
    pub(crate) children: Children,
    pub(crate) output: Output,
    pub(crate) status: watch::Sender<Status>,
    /// The program that runs, and its terminal.
    pub(crate) current: RefCell<Option<Current>>,
    /// Held while programs are started or the tree is ended, so that one does not undo the other.
    pub(crate) turn: Mutex<()>,
    /// Programs beside the main one, by their ids.
    pub(crate) execs: RefCell<BTreeMap<String, Rc<Exec>>>,
    pub(crate) last_exec: Cell<u64>,
    /// What was begun and must come to its end, even where the one who asked has gone.
    pub(crate) tasks: TaskTracker,
    /// The exit code to end with, once it is time.
    pub(crate) exit_code: Cell<i32>,
    /// It is time to end.
    pub(crate) released: CancellationToken,
    /// Connections take no more requests.
    pub(crate) closing: CancellationToken,
}

impl Keeper {
    pub(crate) fn new(settings: Settings, boot_id: String) -> Self {
        Self {
            hello: Hello {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                session: settings.session.clone(),
                pid: std::process::id(),
                boot_id,
                ring_bytes: settings.ring_bytes,
            },
            children: Children::default(),
            output: Output::new(settings.ring_bytes),
            status: watch::Sender::default(),
            current: RefCell::default(),
            turn: Mutex::default(),
            execs: RefCell::default(),
            last_exec: Cell::new(0),
            tasks: TaskTracker::new(),
            exit_code: Cell::new(0),
            released: CancellationToken::new(),
            closing: CancellationToken::new(),
            settings,
        }
    }

    /// The status, with the offsets of this moment.
    pub(crate) fn status(&self) -> Status {
        let ring = self.output.ring.borrow();
        Status {
            first_offset: ring.first(),
            next_offset: ring.next(),
            ..self.status.borrow().clone()
        }
    }

    /// Changes the status, and tells those who want to know.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.status();
        change(&mut status);
        self.status.send_replace(status);
    }

    /// Does work that goes on to its end even when the one who waits for it has gone.
    pub(crate) async fn surely<T: 'static>(
        &self,
        work: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.tasks.spawn_local(async move {
            done.send(work.await).ok();
        });
        result.await.ok()
    }

    /// Ends every process of the session. Answers how many could not be ended.
    pub(crate) async fn end_all(&self, grace: Duration) -> usize {
        tree::end(&self.children, || tree::below(own_pid(), &[]), grace).await
    }

    /// Ends what the main program left: everything but execs.
    pub(crate) async fn end_leftovers(&self, grace: Duration) -> usize {
        let scope = || {
            let execs = self.execs.borrow();
            let spared: Vec<i32> = execs.values().map(|exec| exec.pid()).collect();
            tree::below(own_pid(), &spared)
        };
        tree::end(&self.children, scope, grace).await
    }
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}
