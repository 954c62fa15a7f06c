//! What the server does for a plugin: takes its log and its word on how calls go.

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::RStr;
use berth_plugin_api::doc::Progress;
use berth_plugin_api::raw::{Doc, RawHost, RawHost_TO, RawHostObject};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{Level, debug, error, info, trace, warn};
use uuid::Uuid;

/// Lines of one plugin that the log takes in one [`LOG_WINDOW`].
const LOG_LINES: u32 = 1_000;
const LOG_WINDOW: Duration = Duration::from_secs(1);

/// Who hears how the calls of one plugin go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listeners(Arc<Mutex<HashMap<Uuid, mpsc::Sender<Progress>>>>);

/// Ends a listening when dropped.
#[derive(Debug)]
pub(super) struct Listening {
    listeners: Listeners,
    request_id: Uuid,
}

impl Listeners {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Uuid, mpsc::Sender<Progress>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Until the answer is dropped, `listener` hears how the call goes.
    pub(super) fn listen(
        &self,
        request_id: Uuid,
        listener: Option<mpsc::Sender<Progress>>,
    ) -> Option<Listening> {
        let listener = listener?;
        self.with(|all| all.insert(request_id, listener));
        Some(Listening {
            listeners: self.clone(),
            request_id,
        })
    }

    fn tell(&self, request_id: Uuid, progress: &[u8]) {
        let Some(listener) = self.with(|all| all.get(&request_id).cloned()) else {
            return;
        };
        match serde_json::from_slice(progress) {
            Ok(progress) => drop(listener.try_send(progress)),
            Err(error) => debug!(%error, "a plugin's progress cannot be read"),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listeners.with(|all| all.remove(&self.request_id));
    }
}

/// The host, as one plugin sees it. A panic in here would end the process, so none leaves it.
struct HostSide {
    plugin: String,
    listeners: Listeners,
    window: Mutex<LogWindow>,
}

struct LogWindow {
    since: Instant,
    lines: u32,
    left_out: u64,
}

/// The host for the plugin of this name.
pub(crate) fn host_for(plugin: &str, listeners: Listeners) -> RawHostObject {
    let host = HostSide {
        plugin: plugin.to_owned(),
        listeners,
        window: Mutex::new(LogWindow {
            since: Instant::now(),
            lines: 0,
            left_out: 0,
        }),
    };
    RawHost_TO::from_value(host, TD_Opaque)
}

impl HostSide {
    /// Whether a line may go to the log now; a plugin that floods it loses lines, and it is said how many.
    fn admit(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.elapsed() >= LOG_WINDOW {
            if window.left_out > 0 {
                warn!(target: "plugin", plugin = %self.plugin, lines = window.left_out, "the plugin logs too much; lines were left out");
            }
            *window = LogWindow {
                since: Instant::now(),
                lines: 0,
                left_out: 0,
            };
        }
        if window.lines < LOG_LINES {
            window.lines += 1;
            return true;
        }
        window.left_out += 1;
        false
    }
}

impl RawHost for HostSide {
    fn enabled(&self, level: u32) -> bool {
        catch_unwind(|| match level {
            1 => tracing::enabled!(target: "plugin", Level::ERROR),
            2 => tracing::enabled!(target: "plugin", Level::WARN),
            3 => tracing::enabled!(target: "plugin", Level::INFO),
            4 => tracing::enabled!(target: "plugin", Level::DEBUG),
            _ => tracing::enabled!(target: "plugin", Level::TRACE),
        })
        .unwrap_or(false)
    }

    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        let write = || {
            if !self.admit() {
                return;
            }
            let (plugin, module) = (self.plugin.as_str(), target.as_str());
            let (message, fields) = (message.as_str(), fields.as_str());
            match level {
                1 => error!(target: "plugin", plugin, module, fields, "{message}"),
                2 => warn!(target: "plugin", plugin, module, fields, "{message}"),
                3 => info!(target: "plugin", plugin, module, fields, "{message}"),
                4 => debug!(target: "plugin", plugin, module, fields, "{message}"),
                _ => trace!(target: "plugin", plugin, module, fields, "{message}"),
            }
        };
        let _ = catch_unwind(AssertUnwindSafe(write));
    }

    fn notify(&self, request_id: &[u8; 16], progress: Doc) {
        let tell = || {
            self.listeners
                .tell(Uuid::from_bytes(*request_id), &progress);
        };
        let _ = catch_unwind(AssertUnwindSafe(tell));
    }

    fn query(&self, _name: RStr<'_>) -> Doc {
        Doc::new()
    }
}
