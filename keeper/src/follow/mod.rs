//! Following files that only grow: whole lines, from an offset, for ever.
//!
//! The kernel tells when something changes in a folder that matters; then everything is looked at anew, for a look is
//! cheap. File systems that do not tell are looked at every [`LOOK_INTERVAL`] anyway.

mod glob;
mod tail;

use crate::http::{Answer, Gone, Refusal, code};
use crate::sys::duplicate;
use berth_keeper_protocol::{Follow, FollowFrame};
use bytes::Bytes;
use glob::Folder;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;
use tail::Tails;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(10);

/// Answers what comes, until the one who asked has gone.
pub(crate) async fn follow(follow: &Follow, answer: &Answer) -> Result<(), Refusal> {
    if !follow.glob.starts_with('/') {
        return Err(Refusal::new(code::INVALID, "a glob must be absolute"));
    }
    let mut tails = Tails::new(follow);
    let mut watch = Watch::new();
    let mut going = answer.begin(&[]);
    while going.is_ok() {
        let since = Instant::now();
        let mut found = glob::find(&follow.glob);
        // What came into a folder before it was watched is not told.
        while watch.set(std::mem::take(&mut found.folders)) {
            found = glob::find(&follow.glob);
        }
        tails.look(&found);
        going = tell(&mut tails, answer).await;
        watch.changed(since + LOOK_INTERVAL).await;
    }
    Ok(())
}

async fn tell(tails: &mut Tails, answer: &Answer) -> Result<(), Gone> {
    while let Some((frame, bytes)) = tails.next() {
        answer.send_all(encode(&frame)).await?;
        answer.send_all(bytes).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn encode(frame: &FollowFrame) -> Bytes {
    let document = serde_json::to_vec(frame).unwrap_or_default();
    let length = u32::try_from(document.len()).unwrap_or_default();
    let mut encoded = length.to_be_bytes().to_vec();
    encoded.extend_from_slice(&document);
    encoded.into()
}

/// Waits for changes in folders; where the kernel has no more watches to give, for time alone.
struct Watch {
    kernel: Option<(Inotify, pipe::Receiver)>,
    watched: HashMap<WatchDescriptor, Vec<Folder>>,
}

impl Watch {
    fn new() -> Self {
        let kernel = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok()?;
            let copy = duplicate(inotify.as_fd().as_raw_fd()).ok()?;
            Some((inotify, pipe::Receiver::from_owned_fd_unchecked(copy).ok()?))
        };
        Self {
            kernel: kernel(),
            watched: HashMap::new(),
        }
    }

    /// Watches these folders alone; answers whether some of them were not watched before.
    fn set(&mut self, folders: Vec<Folder>) -> bool {
        let Some((inotify, _)) = &self.kernel else {
            return false;
        };
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let contents = names | AddWatchFlags::IN_MODIFY;
        let mut watched: HashMap<WatchDescriptor, Vec<Folder>> = HashMap::new();
        for folder in folders {
            let flags = if folder.last { contents } else { names };
            // The same folder again is the same watch, and another one under its name is another watch.
            if let Ok(descriptor) = inotify.add_watch(&folder.path, flags) {
                watched.entry(descriptor).or_default().push(folder);
            }
        }
        for descriptor in self.watched.keys() {
            if !watched.contains_key(descriptor) {
                inotify.rm_watch(*descriptor).ok();
            }
        }
        let known = std::mem::replace(&mut self.watched, watched);
        self.watched
            .keys()
            .any(|descriptor| !known.contains_key(descriptor))
    }

    /// Waits for a change that matters, at most until `deadline`.
    async fn changed(&mut self, deadline: Instant) {
        let Some((inotify, ready)) = &self.kernel else {
            return sleep_until(deadline).await;
        };
        while timeout_at(deadline, ready.readable()).await.is_ok() {
            let mut matters = false;
            // Read to the end, so that it is told anew.
            while let Ok(events) = inotify.read_events() {
                matters |= events.iter().any(|event| self.matters(event));
            }
            ready.try_read(&mut [0; 4096]).ok();
            if matters {
                return sleep(GATHER).await;
            }
        }
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        // One about a folder itself, or about events that were too many, has no name.
        let (Some(name), Some(folders)) = (&event.name, self.watched.get(&event.wd)) else {
            return !event.mask.contains(AddWatchFlags::IN_IGNORED);
        };
        let name = name.to_string_lossy();
        folders
            .iter()
            .any(|folder| glob::matches(&folder.pattern, &name))
    }
}
