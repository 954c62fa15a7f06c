//! What comes with a call to a backend.

use berth_plugin_api::doc::Progress;
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// What comes with a call to a backend: under which id it is logged, how long it may take, and who hears how it goes.
#[derive(Debug, Clone)]
pub struct Call {
    /// The id under which host and plugin log the call.
    pub request_id: Uuid,
    /// After this the caller gets a `DEADLINE` error, and the plugin's work is aborted.
    pub time_limit: Duration,
    /// Who hears how long work goes on; what does not fit into the channel is left out.
    pub progress: Option<mpsc::Sender<Progress>>,
}

impl Call {
    /// A call with an id of its own.
    pub fn new(time_limit: Duration) -> Self {
        Self {
            request_id: Uuid::new_v4(),
            time_limit,
            progress: None,
        }
    }

    /// The same call, on which `progress` hears how it goes.
    #[must_use]
    pub fn with_progress(mut self, progress: mpsc::Sender<Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// The same call under the id of the request that it is made for.
    #[must_use]
    pub fn with_request_id(mut self, request_id: Uuid) -> Self {
        self.request_id = request_id;
        self
    }
}
