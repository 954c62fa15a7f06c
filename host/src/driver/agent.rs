//! The driver of an agent, wherever its code runs.

use super::document::{decode, encode};
use super::open::Reset;
use super::watchdog::{ServiceRules, Watchdog};
use super::workers::Workers;
use super::{AgentDriver, DecoderDriver, DriverHealth, PluginInfo};
use abi_stable::std_types::RSlice;
use async_trait::async_trait;
use berth_plugin_api::doc::{
    AgentDescription, AgentEvent, DecoderRequest, DeliverRequest, Delivery, LaunchPlan,
    LaunchRequest,
};
use berth_plugin_api::raw::{RawAgentObject, RawDecoderObject};
use berth_plugin_api::{Code, Error, Result};
use serde_json::Value;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// An agent, called on threads of its own.
pub(crate) struct PluginAgent {
    inner: Arc<Inner>,
    _ends_tasks: DropGuard,
}

struct Inner {
    info: PluginInfo,
    description: AgentDescription,
    raw: Arc<RawAgentObject>,
    limit: Duration,
    workers: Workers,
    watchdog: Watchdog,
    tasks: TaskTracker,
    ended: CancellationToken,
    reset: OnceLock<Reset>,
}

impl fmt::Debug for PluginAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginAgent")
            .field("info", &self.inner.info)
            .finish_non_exhaustive()
    }
}

impl PluginAgent {
    pub(super) fn new(
        info: PluginInfo,
        description: AgentDescription,
        raw: RawAgentObject,
        rules: ServiceRules,
    ) -> Self {
        let ended = CancellationToken::new();
        Self {
            _ends_tasks: ended.clone().drop_guard(),
            inner: Arc::new(Inner {
                workers: Workers::new(&info.name),
                info,
                description,
                raw: Arc::new(raw),
                limit: rules.default_limit,
                watchdog: Watchdog::new(rules),
                tasks: TaskTracker::new(),
                ended,
                reset: OnceLock::new(),
            }),
        }
    }

    /// The same, for a plugin whose process can be ended when it keeps failing.
    pub(super) fn with_reset(self, reset: Option<Reset>) -> Self {
        if let Some(reset) = reset {
            self.inner.reset.set(reset).ok();
        }
        self
    }
}

impl Inner {
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        job: impl FnOnce(&RawAgentObject) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.watchdog.admit(&self.info.name)?;
        let raw = Arc::clone(&self.raw);
        self.run(operation, move || job(&raw)).await
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outcome = timeout(self.limit, self.workers.run(job))
            .await
            .unwrap_or_else(|_| {
                Err(Error::new(
                    Code::Deadline,
                    format!(
                        "the plugin {} did not answer {operation} within {:?}",
                        self.info.name, self.limit
                    ),
                ))
            });
        if let Err(error) = &outcome
            && matches!(error.code, Code::Deadline | Code::Panic | Code::PluginLost)
            && self.watchdog.failed(error)
        {
            warn!(plugin = %self.info.name, %error, "the plugin keeps failing and is out of service");
            self.tasks.spawn(Arc::clone(self).probe_until_well());
        }
        outcome
    }

    /// An agent has no probe: once its threads answer at all, its callers may try again.
    async fn probe_until_well(self: Arc<Self>) {
        if let Some(reset) = self.reset.get() {
            reset();
        }
        for pause in self.watchdog.probe_pauses() {
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Ok(Ok(())) = timeout(self.limit, self.workers.run(|| Ok(()))).await {
                info!(plugin = %self.info.name, "the plugin is in service again");
                self.watchdog.recovered();
                return;
            }
            warn!(plugin = %self.info.name, "the plugin is still out of service");
        }
    }
}

#[async_trait]
impl AgentDriver for PluginAgent {
    fn info(&self) -> &PluginInfo {
        &self.inner.info
    }

    fn description(&self) -> &AgentDescription {
        &self.inner.description
    }

    fn health(&self) -> DriverHealth {
        self.inner.watchdog.health()
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan> {
        let request = encode(request)?;
        let answer = self
            .inner
            .call("launch", move |raw| {
                Ok(raw.launch(request).into_result()?)
            })
            .await?;
        decode("launch", &answer)
    }

    async fn deliver(&self, request: &DeliverRequest) -> Result<Delivery> {
        let request = encode(request)?;
        let answer = self
            .inner
            .call("deliver", move |raw| {
                Ok(raw.deliver(request).into_result()?)
            })
            .await?;
        decode("deliver", &answer)
    }

    async fn decoder(&self, request: &DecoderRequest) -> Result<Box<dyn DecoderDriver>> {
        let request = encode(request)?;
        let raw = self
            .inner
            .call("decoder", move |raw| {
                Ok(raw.decoder(request).into_result()?)
            })
            .await?;
        Ok(Box::new(PluginDecoder {
            agent: Arc::clone(&self.inner),
            raw: Some(raw),
        }))
    }
}

/// A decoder. It moves to the thread that runs it and back, so that one that hangs is lost and no more.
struct PluginDecoder {
    agent: Arc<Inner>,
    raw: Option<RawDecoderObject>,
}

impl fmt::Debug for PluginDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginDecoder")
            .field("agent", &self.agent.info.name)
            .finish_non_exhaustive()
    }
}

impl PluginDecoder {
    async fn call<T: Send + 'static>(
        &mut self,
        operation: &'static str,
        job: impl FnOnce(&mut RawDecoderObject) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut raw = self.raw.take().ok_or_else(|| {
            Error::new(
                Code::PluginLost,
                "the decoder was lost in an earlier call; make a new one from its last state",
            )
        })?;
        let (raw, value) = self
            .agent
            .run(operation, move || {
                let value = job(&mut raw)?;
                Ok((raw, value))
            })
            .await?;
        self.raw = Some(raw);
        Ok(value)
    }
}

#[async_trait]
impl DecoderDriver for PluginDecoder {
    async fn feed(&mut self, source: u32, input: &[u8]) -> Result<Vec<AgentEvent>> {
        let input = input.to_vec();
        let events = self
            .call("feed", move |raw| {
                Ok(raw.feed(source, RSlice::from_slice(&input)).into_result()?)
            })
            .await?;
        decode("feed", &events)
    }

    async fn state(&mut self) -> Result<Value> {
        let state = self
            .call("state", |raw| Ok(raw.state().into_result()?))
            .await?;
        decode("state", &state)
    }
}
