//! A backend that is not part of berth: sessions on this machine, each in a bubblewrap sandbox.
//!
//! A backend makes places, runs the keeper in them and connects to it; the keeper does everything else. See README.md
//! for what every backend must keep to.

mod options;
mod place;
mod sandbox;

use crate::options::{Config, Options, parse};
use crate::place::{Held, Place as Folder, Spec};
use crate::sandbox::Sandbox;
use berth_plugin_api::doc::{
    BackendCapabilities, BackendDescription, CreateRequest, DeleteRequest, Deleted, Filesystem,
    Inspection, ListRequest, ListedPlace, OpenRequest, Place, PlaceRequest, PlaceState, Places,
    Probe, StopRequest,
};
use berth_plugin_api::{Backend, Code, Cx, Error, Result, Stream};
use schemars::schema_for;
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::process::Command;

const PROBE_LIMIT: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Sessions in bubblewrap sandboxes.
#[derive(Debug)]
pub struct Bubblewrap {
    data_dir: PathBuf,
    config: Arc<Config>,
}

impl Backend for Bubblewrap {
    fn describe() -> BackendDescription {
        BackendDescription {
            capabilities: BackendCapabilities {
                filesystem: Filesystem::Bind,
                ..BackendCapabilities::default()
            },
            config_schema: Some(schema_for!(Config).to_value()),
            options_schema: Some(schema_for!(Options).to_value()),
        }
    }

    async fn open(request: OpenRequest) -> Result<Self> {
        Ok(Self {
            data_dir: request.data_dir,
            config: Arc::new(parse("config", request.config)?),
        })
    }

    async fn probe(&self, _cx: &Cx) -> Result<Probe> {
        let mut probe = Probe {
            architecture: std::env::consts::ARCH.to_owned(),
            ..Probe::default()
        };
        match self.try_sandbox().await {
            Ok(version) => {
                probe.available = true;
                probe.engine = Some(version);
            }
            Err(reason) => probe.reason = Some(reason),
        }
        Ok(probe)
    }

    async fn create(&self, _cx: &Cx, request: CreateRequest) -> Result<Place> {
        let handle = handle(&request.session.id);
        let mut warnings = Vec::new();
        if request.resources != berth_plugin_api::doc::Resources::default() {
            warnings.push("bubblewrap has no limits; resources are ignored".to_owned());
        }
        let folder = self.folder(&request.session.id)?;
        blocking(move || {
            let held = folder.make()?;
            if let Some(there) = held.spec()?
                && there.instance != request.session.instance
            {
                return Err(Error::new(Code::AlreadyExists, "another berth's place"));
            }
            held.save_spec(&Spec {
                instance: request.session.instance,
                sandbox: Sandbox {
                    session_id: request.session.id,
                    keeper: request.keeper,
                    mounts: request.mounts,
                    options: parse("options", request.options)?,
                },
            })
        })
        .await?;
        Ok(Place { handle, warnings })
    }

    async fn start(&self, _cx: &Cx, request: PlaceRequest) -> Result<()> {
        let folder = self.folder(&request.session.id)?;
        let config = Arc::clone(&self.config);
        blocking(move || match folder.hold()? {
            Some(held) => held.start(&config),
            None => Err(Error::not_found(format!(
                "session {} has no place",
                request.session.id
            ))),
        })
        .await
    }

    async fn stop(&self, _cx: &Cx, request: StopRequest) -> Result<()> {
        let session_id = request.place.session.id;
        let give_up = Instant::now() + Duration::from_millis(request.grace_ms);
        self.with_place(&session_id, Held::ask_to_end).await?;
        while Instant::now() < give_up && self.look(&session_id).await?.state == PlaceState::Running
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.with_place(&session_id, Held::end).await.map(drop)
    }

    async fn delete(&self, _cx: &Cx, request: DeleteRequest) -> Result<Deleted> {
        let folder = self.folder(&request.place.session.id)?;
        blocking(move || {
            let Some(held) = folder.hold()? else {
                return Ok(Deleted::default());
            };
            held.end()?;
            held.remove()?;
            Ok(Deleted {
                removed: vec!["sandbox".to_owned()],
            })
        })
        .await
    }

    async fn inspect(&self, _cx: &Cx, request: PlaceRequest) -> Result<Inspection> {
        self.look(&request.session.id).await
    }

    async fn list(&self, _cx: &Cx, request: ListRequest) -> Result<Places> {
        let data_dir = self.data_dir.clone();
        blocking(move || {
            let mut places = Vec::new();
            for session_id in Folder::all(&data_dir)? {
                let Some(held) = Folder::of(&data_dir, &session_id)?.hold()? else {
                    continue;
                };
                // One that is half made has no owner yet; all that is in this folder is this berth's.
                if held
                    .spec()?
                    .is_some_and(|spec| spec.instance != request.instance)
                {
                    continue;
                }
                places.push(ListedPlace {
                    handle: handle(&session_id),
                    inspection: held.inspect()?,
                    created_at: None,
                    session_id,
                });
            }
            Ok(Places { places })
        })
        .await
    }

    async fn connect(&self, cx: &Cx, request: PlaceRequest) -> Result<Stream> {
        let state = self.folder(&request.session.id)?.state();
        let give_up = Instant::now() + cx.time_limit().unwrap_or(CONNECT_LIMIT);
        loop {
            // By the folder's descriptor: a socket's path may not be long, and a data folder may lie deep.
            if let Ok(folder) = File::open(&state) {
                let socket = format!("/proc/self/fd/{}/keeper.sock", folder.as_raw_fd());
                if let Ok(stream) = UnixStream::connect(socket).await {
                    return Ok(Stream::new(stream));
                }
            }
            let seen = self.look(&request.session.id).await?;
            if seen.state != PlaceState::Running {
                let reason = seen
                    .error_message
                    .or(seen.engine_status)
                    .unwrap_or_default();
                return Err(Error::new(
                    Code::Conflict,
                    format!("the sandbox does not run: {reason}"),
                ));
            }
            if Instant::now() >= give_up {
                return Err(Error::unavailable("the keeper does not answer"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Bubblewrap {
    fn folder(&self, session_id: &str) -> Result<Folder> {
        Folder::of(&self.data_dir, session_id)
    }

    async fn look(&self, session_id: &str) -> Result<Inspection> {
        Ok(self
            .with_place(session_id, Held::inspect)
            .await?
            .unwrap_or_default())
    }

    /// Does something with a place; `None` where there is none.
    async fn with_place<T: Send + 'static>(
        &self,
        session_id: &str,
        act: impl FnOnce(&Held) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let folder = self.folder(session_id)?;
        blocking(move || folder.hold()?.map(|held| act(&held)).transpose()).await
    }

    /// Makes the smallest sandbox there is; gives bubblewrap's version, or what is to be done.
    async fn try_sandbox(&self) -> Result<String, String> {
        let version = self.run(&["--version"]).await?;
        self.run(&["--unshare-all", "--ro-bind", "/", "/", "true"])
            .await
            .map_err(|fault| {
                format!(
                    "{fault} (may this user make namespaces? see kernel.unprivileged_userns_clone)"
                )
            })?;
        Ok(version.trim().to_owned())
    }

    async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let run = Command::new(&self.config.bwrap)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PROBE_LIMIT, run)
            .await
            .map_err(|_| "bwrap does not answer".to_owned())?
            .map_err(|fault| {
                format!(
                    "cannot run {}: {fault} (Debian: apt-get install bubblewrap)",
                    self.config.bwrap
                )
            })?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn handle(session_id: &str) -> Value {
    json!({"version": 1, "place": session_id})
}

/// Runs work on files and locks to its end, beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
}

berth_plugin_api::export_plugin! { backend: Bubblewrap, name: "bubblewrap" }

#[cfg(test)]
mod tests;
