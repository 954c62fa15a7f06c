//! Threads for code that only computes, but is not ours: it may hang, and a thread of the server's must not hang with it.

use berth_plugin_api::{Code, Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use tokio::sync::{Semaphore, oneshot};

/// At most so many threads run, or hang, for one plugin.
const THREADS: usize = 4;
/// At most so many threads wait for work.
const IDLE: usize = 2;

type Job = Box<dyn FnOnce() + Send>;
type IdleThreads = Mutex<Vec<mpsc::Sender<Job>>>;

/// A few threads of one plugin's. A job that hangs keeps its thread; when all hang, further jobs wait for as long as
/// their callers do. Threads without work end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    name: String,
    permits: Arc<Semaphore>,
    idle: Arc<IdleThreads>,
}

impl Workers {
    pub(super) fn new(name: &str) -> Self {
        Self {
            // Linux keeps 15 characters of a thread's name.
            name: format!("plug-{name}").chars().take(15).collect(),
            permits: Arc::new(Semaphore::new(THREADS)),
            idle: Arc::default(),
        }
    }

    /// Runs `job` on one of the threads. Dropping the answer leaves the job to itself.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(Error::internal)?;
        let (sender, receiver) = oneshot::channel();
        self.dispatch(Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(job));
            drop(permit);
            let _ = sender.send(outcome.unwrap_or_else(|payload| {
                // It may panic when it is dropped.
                Box::leak(payload);
                Err(Error::new(Code::Panic, "the plugin panicked"))
            }));
        }))?;
        receiver
            .await
            .unwrap_or_else(|_| Err(Error::new(Code::PluginLost, "the plugin's thread ended")))
    }

    fn dispatch(&self, mut job: Job) -> Result<()> {
        loop {
            let thread = lock(&self.idle).pop();
            match thread {
                Some(thread) => match thread.send(job) {
                    Ok(()) => return Ok(()),
                    Err(mpsc::SendError(returned)) => job = returned,
                },
                None => break,
            }
        }
        let idle = Arc::downgrade(&self.idle);
        std::thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || work(job, &idle))
            .map(drop)
            .map_err(|error| Error::new(Code::Exhausted, format!("no thread: {error}")))
    }
}

fn lock(idle: &IdleThreads) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Job>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(mut job: Job, idle: &Weak<IdleThreads>) {
    loop {
        job();
        let (sender, receiver) = mpsc::channel();
        {
            let Some(idle) = idle.upgrade() else { return };
            let mut idle = lock(&idle);
            if idle.len() >= IDLE {
                return;
            }
            idle.push(sender);
        }
        match receiver.recv() {
            Ok(next) => job = next,
            Err(mpsc::RecvError) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn jobs_that_hang_or_panic_leave_the_others_alone() {
        let workers = Workers::new("test");
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let stuck = Arc::clone(&hang);
        let never = workers.run(move || {
            let _ = stuck.lock().map(|end| end.recv());
            Ok(0)
        });
        assert!(timeout(Duration::from_millis(20), never).await.is_err());
        assert_eq!(workers.run(|| Ok(1)).await, Ok(1));
        let panic = workers.run::<()>(|| panic!("boom")).await.unwrap_err();
        assert_eq!(panic.code, Code::Panic);
        for number in 0..100 {
            assert_eq!(workers.run(move || Ok(number)).await, Ok(number));
        }
        assert!(lock(&workers.idle).len() <= IDLE);
        drop(release);
    }
}
