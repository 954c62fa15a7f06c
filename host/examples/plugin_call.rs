//! Times a plugin call beside a direct one, in the same run.
//!
//! `cargo run --release -p berth-host --example plugin_call [FOLDER]` prints a line of JSON for each way of calling the
//! operation `inspect`: a direct await; a direct await on another runtime, which is what any plugin with threads of its
//! own costs; the driver with its guards, documents and frozen types, linked; and, for each backend in FOLDER, the driver
//! before the library in this process and in one of its own (that needs the program `berth` beside the examples' folder).

use anyhow::Context;
use async_trait::async_trait;
use berth_host::driver::{BackendDriver, Call, Isolation, linked_backend};
use berth_host::plugin::{PluginDir, PluginSettings, load_all};
use berth_plugin_api::doc::{
    BackendDescription, CreateRequest, DeleteRequest, Deleted, Inspection, ListRequest,
    OpenRequest, Place, PlaceRequest, Places, Probe, SessionRef, StopRequest,
};
use berth_plugin_api::{Backend, Cx, Error, Result, Stream};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SAMPLES: u32 = 11;
const CALLS: u32 = 5_000;
const LIMIT: Duration = Duration::from_secs(10);

/// Answers at once.
struct Null;

impl Backend for Null {
    fn describe() -> BackendDescription {
        BackendDescription::default()
    }

    async fn open(_: OpenRequest) -> Result<Self> {
        Ok(Self)
    }

    async fn probe(&self, _: &Cx) -> Result<Probe> {
        Ok(Probe::default())
    }

    async fn create(&self, _: &Cx, _: CreateRequest) -> Result<Place> {
        Ok(Place::default())
    }

    async fn start(&self, _: &Cx, _: PlaceRequest) -> Result<()> {
        Ok(())
    }

    async fn stop(&self, _: &Cx, _: StopRequest) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, _: &Cx, _: DeleteRequest) -> Result<Deleted> {
        Ok(Deleted::default())
    }

    async fn inspect(&self, _: &Cx, request: PlaceRequest) -> Result<Inspection> {
        std::hint::black_box(request);
        Ok(Inspection::default())
    }

    async fn list(&self, _: &Cx, _: ListRequest) -> Result<Places> {
        Ok(Places::default())
    }

    async fn connect(&self, _: &Cx, _: PlaceRequest) -> Result<Stream> {
        Err(Error::unsupported("connect"))
    }
}

/// One way of calling.
#[async_trait]
trait Way: Send + Sync {
    async fn call(&self, request: &PlaceRequest) -> Result<Inspection>;
}

struct Direct(Null);

#[async_trait]
impl Way for Direct {
    async fn call(&self, request: &PlaceRequest) -> Result<Inspection> {
        self.0.inspect(&Cx::detached(), request.clone()).await
    }
}

struct OtherRuntime {
    backend: Arc<Null>,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl Way for OtherRuntime {
    async fn call(&self, request: &PlaceRequest) -> Result<Inspection> {
        let (backend, request) = (Arc::clone(&self.backend), request.clone());
        let work = async move { backend.inspect(&Cx::detached(), request).await };
        self.runtime.spawn(work).await.map_err(Error::internal)?
    }
}

struct Driver(Arc<dyn BackendDriver>);

#[async_trait]
impl Way for Driver {
    async fn call(&self, request: &PlaceRequest) -> Result<Inspection> {
        self.0.inspect(Call::new(LIMIT), request).await
    }
}

/// Prints the median of the samples, in microseconds a call.
async fn measure(name: &str, way: &dyn Way) -> anyhow::Result<()> {
    let request = PlaceRequest {
        session: SessionRef {
            id: "01900000-0000-7000-8000-000000000000".to_owned(),
            name: "absent".to_owned(),
            instance: "bench".to_owned(),
        },
        handle: serde_json::Value::Null,
    };
    let mut samples = Vec::new();
    for sample in 0..=SAMPLES {
        let since = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(way.call(&request).await.context("inspect")?);
        }
        let taken = since.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
        // The first warms up.
        if sample > 0 {
            samples.push(taken);
        }
    }
    samples.sort_by(f64::total_cmp);
    let line = serde_json::json!({
        "what": "plugin call",
        "way": name,
        "median_us": samples[samples.len() / 2],
        "least_us": samples[0],
        "calls": SAMPLES * CALLS,
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

async fn measure_folder(folder: &Path, isolation: Isolation) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let settings = PluginSettings {
        dirs: vec![PluginDir {
            path: folder.to_owned(),
            isolation,
        }],
        data_dir: data.path().to_owned(),
        instance: "bench".to_owned(),
        program: Some(program()?),
        ..PluginSettings::default()
    };
    let since = Instant::now();
    let drivers = load_all(&settings).await;
    let line = serde_json::json!({
        "what": "load all plugins",
        "way": isolation,
        "ms": since.elapsed().as_secs_f64() * 1e3,
        "plugins": drivers.backends.len() + drivers.agents.len(),
    });
    writeln!(std::io::stdout(), "{line}")?;
    for (name, driver) in &drivers.backends {
        let way = match isolation {
            Isolation::None => format!("library {name} in this process"),
            Isolation::Process => format!("library {name} in a process of its own"),
        };
        let driver = Driver(Arc::clone(driver));
        if driver
            .0
            .probe(Call::new(LIMIT))
            .await
            .is_ok_and(|probe| probe.available)
        {
            measure(&way, &driver).await?;
        }
    }
    Ok(())
}

/// `berth`, built beside this example.
fn program() -> anyhow::Result<PathBuf> {
    let folder = std::env::current_exe()?;
    let folder = folder.ancestors().nth(2).context("the build's folder")?;
    Ok(folder.join("berth"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    measure("direct", &Direct(Null)).await?;
    let runtime = OtherRuntime {
        backend: Arc::new(Null),
        runtime: other.handle().clone(),
    };
    measure("direct, on another runtime", &runtime).await?;
    let linked = linked_backend::<Null>("null", OpenRequest::default()).await?;
    measure("driver, linked", &Driver(linked)).await?;
    if let Some(folder) = std::env::args_os().nth(1) {
        for isolation in [Isolation::None, Isolation::Process] {
            measure_folder(Path::new(&folder), isolation).await?;
        }
    }
    other.shutdown_background();
    Ok(())
}
