//! A backend without places: a world that outlives servers, and a script of faults.

use super::keeper::FakeKeeper;
use crate::driver::{BackendDriver, Call, DriverHealth, Isolation, PluginInfo, PluginKind};
use async_trait::async_trait;
use berth_plugin_api::doc::{
    BackendCapabilities, BackendDescription, CreateRequest, DeleteRequest, Deleted, Filesystem,
    Inspection, ListRequest, ListedPlace, Place, PlaceRequest, PlaceState, Places, Probe,
    RefreshRequest, Refreshed, StopRequest, WatchEvent, WatchRequest,
};
use berth_plugin_api::{Code, Error, Result, Stream};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How a call comes out instead of well.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It fails, and nothing is done.
    Fails(Error),
    /// It is done, and never answers.
    DoneAndHangs,
    /// Nothing is done, and it never answers.
    Hangs,
}

/// A backend and everything that it made.
#[derive(Debug)]
pub(super) struct FakeBackend {
    info: PluginInfo,
    description: BackendDescription,
    world: Mutex<World>,
    /// Counts calls by their names.
    pub(super) calls: watch::Sender<BTreeMap<&'static str, usize>>,
}

#[derive(Debug, Default)]
struct World {
    places: HashMap<String, FakePlace>,
    faults: HashMap<&'static str, VecDeque<Fault>>,
    away: Option<String>,
    missing: Option<String>,
    watchers: Vec<mpsc::Sender<WatchEvent>>,
}

#[derive(Debug, Clone)]
struct FakePlace {
    keeper: Option<Arc<FakeKeeper>>,
    starts: usize,
    created_at: String,
}

impl FakePlace {
    fn inspection(&self) -> Inspection {
        let state = match &self.keeper {
            None => PlaceState::Created,
            Some(keeper) if keeper.is_over() => PlaceState::Exited,
            Some(_) => PlaceState::Running,
        };
        Inspection {
            state,
            engine_status: Some("fake".to_owned()),
            exit_code: (state == PlaceState::Exited).then_some(137),
            ..Inspection::default()
        }
    }
}

impl FakeBackend {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            info: PluginInfo {
                name: name.to_owned(),
                kind: PluginKind::Backend,
                version: "1.0.0".to_owned(),
                api_version: "1.0.0".to_owned(),
                summary: String::new(),
                path: None,
                sha256: None,
                isolation: Isolation::None,
            },
            description: BackendDescription {
                capabilities: BackendCapabilities {
                    filesystem: Filesystem::Host,
                    watch: true,
                    ..BackendCapabilities::default()
                },
                config_schema: None,
                options_schema: Some(json!({
                    "type": "object",
                    "properties": {"network": {"type": "string"}},
                    "additionalProperties": false
                })),
            },
            world: Mutex::default(),
            calls: watch::channel(BTreeMap::new()).0,
        })
    }

    /// The next call of this name comes out so.
    pub(super) fn fault(&self, call: &'static str, fault: Fault) {
        let mut world = self.world.lock().unwrap();
        world.faults.entry(call).or_default().push_back(fault);
    }

    pub(super) fn clear_faults(&self) {
        self.world.lock().unwrap().faults.clear();
    }

    /// The engine goes away, or comes back.
    pub(super) fn away(&self, reason: Option<&str>) {
        self.world.lock().unwrap().away = reason.map(str::to_owned);
    }

    /// This command cannot be started in places made from now on.
    pub(super) fn missing(&self, command: &str) {
        self.world.lock().unwrap().missing = Some(command.to_owned());
    }

    pub(super) fn places(&self) -> Vec<String> {
        self.world.lock().unwrap().places.keys().cloned().collect()
    }

    pub(super) fn starts(&self, id: &str) -> usize {
        self.world
            .lock()
            .unwrap()
            .places
            .get(id)
            .map_or(0, |place| place.starts)
    }

    pub(super) fn keeper(&self, id: &str) -> Arc<FakeKeeper> {
        let world = self.world.lock().unwrap();
        world.places[id].keeper.clone().expect("the keeper runs")
    }

    /// A place that no session asked for, or that was left behind.
    pub(super) fn stray(&self, id: &str, created_at: &str) {
        let place = FakePlace {
            keeper: None,
            starts: 0,
            created_at: created_at.to_owned(),
        };
        self.world
            .lock()
            .unwrap()
            .places
            .insert(id.to_owned(), place);
    }

    /// Somebody removes the place behind the server's back.
    pub(super) fn lose(&self, id: &str) {
        let place = self.world.lock().unwrap().places.remove(id);
        if let Some(keeper) = place.and_then(|place| place.keeper) {
            keeper.kill();
        }
        self.tell(id, Inspection::default());
    }

    /// Somebody kills the place's main process.
    pub(super) fn kill(&self, id: &str) {
        self.keeper(id).kill();
        let inspection = self.world.lock().unwrap().places[id].inspection();
        self.tell(id, inspection);
    }

    fn tell(&self, id: &str, inspection: Inspection) {
        let event = WatchEvent {
            session_id: id.to_owned(),
            inspection,
        };
        let mut world = self.world.lock().unwrap();
        world
            .watchers
            .retain(|watcher| watcher.try_send(event.clone()).is_ok());
    }

    /// Waits until a call of this name was made so often.
    pub(super) async fn called(&self, call: &'static str, times: usize) {
        let mut calls = self.calls.subscribe();
        tokio::time::timeout(
            Duration::from_secs(20),
            calls.wait_for(|calls| calls.get(call).is_some_and(|count| *count >= times)),
        )
        .await
        .unwrap_or_else(|_| panic!("{call} was not called {times} times"))
        .unwrap();
    }

    async fn call<T>(
        &self,
        name: &'static str,
        call: &Call,
        act: impl FnOnce(&mut World) -> Result<T>,
    ) -> Result<T> {
        let (fault, away) = {
            let mut world = self.world.lock().unwrap();
            let fault = world.faults.get_mut(name).and_then(VecDeque::pop_front);
            (fault, world.away.clone())
        };
        let hangs = async {
            tokio::time::sleep(call.time_limit).await;
            Err(Error::new(Code::Deadline, "the call ran past its limit"))
        };
        let count = || {
            self.calls
                .send_modify(|calls| *calls.entry(name).or_default() += 1);
        };
        if let Some(reason) = away {
            count();
            return Err(Error::unavailable(reason));
        }
        match fault {
            None => {
                let outcome = act(&mut self.world.lock().unwrap());
                count();
                outcome
            }
            Some(Fault::Fails(error)) => {
                count();
                Err(error)
            }
            Some(Fault::Hangs) => {
                count();
                hangs.await
            }
            Some(Fault::DoneAndHangs) => {
                act(&mut self.world.lock().unwrap())?;
                count();
                hangs.await
            }
        }
    }
}

#[async_trait]
impl BackendDriver for FakeBackend {
    fn info(&self) -> &PluginInfo {
        &self.info
    }

    fn description(&self) -> &BackendDescription {
        &self.description
    }

    fn health(&self) -> DriverHealth {
        DriverHealth::Ready
    }

    async fn probe(&self, call: Call) -> Result<Probe> {
        self.call("probe", &call, |_| {
            Ok(Probe {
                available: true,
                architecture: "fake".to_owned(),
                ..Probe::default()
            })
        })
        .await
    }

    async fn create(&self, call: Call, request: &CreateRequest) -> Result<Place> {
        self.call("create", &call, |world| {
            world
                .places
                .entry(request.session.id.clone())
                .or_insert_with(|| FakePlace {
                    keeper: None,
                    starts: 0,
                    created_at: jiff::Timestamp::now().to_string(),
                });
            Ok(Place {
                handle: json!({"v": 1, "id": request.session.id}),
                warnings: Vec::new(),
            })
        })
        .await
    }

    async fn start(&self, call: Call, request: &PlaceRequest) -> Result<()> {
        self.call("start", &call, |world| {
            let missing = world.missing.clone();
            let place = world
                .places
                .get_mut(&request.session.id)
                .ok_or_else(|| Error::not_found("no such place"))?;
            if place.keeper.as_ref().is_none_or(|keeper| keeper.is_over()) {
                place.keeper = Some(FakeKeeper::new(missing));
                place.starts += 1;
            }
            Ok(())
        })
        .await
    }

    async fn stop(&self, call: Call, request: &StopRequest) -> Result<()> {
        self.call("stop", &call, |world| {
            if let Some(place) = world.places.get(&request.place.session.id)
                && let Some(keeper) = &place.keeper
            {
                keeper.kill();
            }
            Ok(())
        })
        .await
    }

    async fn delete(&self, call: Call, request: &DeleteRequest) -> Result<Deleted> {
        self.call("delete", &call, |world| {
            let place = world.places.remove(&request.place.session.id);
            let removed = place.as_ref().map(|_| "container".to_owned());
            if let Some(keeper) = place.and_then(|place| place.keeper) {
                keeper.kill();
            }
            Ok(Deleted {
                removed: removed.into_iter().collect(),
            })
        })
        .await
    }

    async fn inspect(&self, call: Call, request: &PlaceRequest) -> Result<Inspection> {
        self.call("inspect", &call, |world| {
            Ok(world
                .places
                .get(&request.session.id)
                .map(FakePlace::inspection)
                .unwrap_or_default())
        })
        .await
    }

    async fn list(&self, call: Call, _request: &ListRequest) -> Result<Places> {
        self.call("list", &call, |world| {
            Ok(Places {
                places: world
                    .places
                    .iter()
                    .map(|(id, place)| ListedPlace {
                        session_id: id.clone(),
                        handle: json!({"v": 1, "id": id}),
                        created_at: Some(place.created_at.clone()),
                        inspection: place.inspection(),
                    })
                    .collect(),
            })
        })
        .await
    }

    async fn refresh(&self, _call: Call, _request: &RefreshRequest) -> Result<Refreshed> {
        Err(Error::unsupported("refresh"))
    }

    async fn connect(&self, call: Call, request: &PlaceRequest) -> Result<Stream> {
        self.call("connect", &call, |world| {
            let keeper = world
                .places
                .get(&request.session.id)
                .and_then(|place| place.keeper.clone())
                .filter(|keeper| !keeper.is_over())
                .ok_or_else(|| Error::new(Code::Conflict, "the place does not run"))?;
            Ok(keeper.connect())
        })
        .await
    }

    async fn watch(
        &self,
        call: Call,
        _request: &WatchRequest,
    ) -> Result<mpsc::Receiver<WatchEvent>> {
        self.call("watch", &call, |world| {
            let (sender, receiver) = mpsc::channel(64);
            world.watchers.push(sender);
            Ok(receiver)
        })
        .await
    }

    async fn shutdown(&self, _grace: Duration) {}
}
