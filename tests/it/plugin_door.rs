//! The door before real libraries, good and bad: each is loaded and works, or is refused or contained with a message
//! that says what to do, and the door is fine afterwards.

use berth_host::driver::{AgentDriver, BackendDriver, Call, DriverHealth, Drivers, Isolation};
use berth_host::plugin::check::{Finding, Outcome, Report, check};
use berth_host::plugin::{PluginDir, PluginSettings, load_all};
use berth_plugin_api::doc::{
    AgentEvent, CreateRequest, DecoderRequest, DeleteRequest, DeliverRequest, LaunchRequest,
    ListRequest, PlaceRequest, Probe, RefreshRequest, SessionRef, StopRequest, WatchRequest,
};
use berth_plugin_api::{Code, Error};
use berth_tests::{Layout, Libraries, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

/// Plugin folders and a data folder.
struct Door {
    root: TempDir,
    settings: PluginSettings,
}

impl Door {
    fn new() -> Self {
        let root = TempDir::new().expect("a folder");
        let settings = PluginSettings {
            data_dir: root.path().join("data"),
            instance: "test".to_owned(),
            log_level: "info".to_owned(),
            ..PluginSettings::default()
        };
        Self { root, settings }
    }

    /// A door with these libraries in one folder.
    fn with(libraries: &[&str]) -> Self {
        let mut door = Self::new();
        let folder = door.folder("plugins");
        for library in libraries {
            put(&folder, library);
        }
        door
    }

    /// A door whose plugins run in processes of their own.
    fn with_processes(libraries: &[&str]) -> Self {
        let mut door = Self::with(libraries);
        door.settings.dirs[0].isolation = Isolation::Process;
        door.settings.program = Some(Layout::get().program());
        door
    }

    fn folder(&mut self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::create_dir(&path).expect("a new folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        self.settings.dirs.push(PluginDir {
            path: path.clone(),
            isolation: Isolation::None,
        });
        path
    }

    async fn load(&self) -> Drivers {
        load_all(&self.settings).await
    }
}

/// Puts the library of this fixture into the folder.
fn put(folder: &Path, library: &str) -> PathBuf {
    let bytes = fs::read(Libraries::get().path(library)).expect("a built library");
    put_bytes(folder, &format!("{library}.so"), &bytes)
}

fn put_bytes(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
    path
}

/// The reason for which the only file of the door was refused.
fn only_reason(drivers: &Drivers) -> &str {
    assert!(drivers.backends.is_empty(), "{drivers:?}");
    assert!(drivers.agents.is_empty(), "{drivers:?}");
    assert_eq!(drivers.refused.len(), 1, "{drivers:?}");
    &drivers.refused[0].reason
}

/// That the door is fine: a good library loads and works.
async fn still_opens() {
    let drivers = Door::with(&["toy"]).load().await;
    assert!(probe(&*drivers.backends["toy"]).await.available);
}

fn call() -> Call {
    Call::new(LIMIT)
}

async fn probe(backend: &dyn BackendDriver) -> Probe {
    backend.probe(call()).await.expect("it answers")
}

fn place(name: &str) -> PlaceRequest {
    PlaceRequest {
        session: SessionRef {
            id: "0190".to_owned(),
            name: name.to_owned(),
            instance: "test".to_owned(),
        },
        handle: json!({"v": 1}),
    }
}

fn create(name: &str) -> CreateRequest {
    CreateRequest {
        session: place(name).session,
        options: json!({"deep": [1, {"x": null}]}),
        ..CreateRequest::default()
    }
}

/// What each operation came to, told to do what `name` says.
async fn each_operation(
    backend: &dyn BackendDriver,
    name: &str,
    limit: Duration,
) -> Vec<(&'static str, Option<Error>)> {
    let call = || Call::new(limit);
    let place = place(name);
    let stop = StopRequest {
        place: place.clone(),
        grace_ms: 0,
    };
    let delete = DeleteRequest {
        place: place.clone(),
        data: true,
    };
    let list = ListRequest {
        instance: name.to_owned(),
    };
    let watch = WatchRequest {
        instance: name.to_owned(),
    };
    let refresh = RefreshRequest {
        create: create(name),
        ..RefreshRequest::default()
    };
    vec![
        ("create", backend.create(call(), &create(name)).await.err()),
        ("start", backend.start(call(), &place).await.err()),
        ("stop", backend.stop(call(), &stop).await.err()),
        ("delete", backend.delete(call(), &delete).await.err()),
        ("inspect", backend.inspect(call(), &place).await.err()),
        ("list", backend.list(call(), &list).await.err()),
        ("refresh", backend.refresh(call(), &refresh).await.err()),
        ("connect", backend.connect(call(), &place).await.err()),
        ("watch", backend.watch(call(), &watch).await.err()),
    ]
}

#[tokio::test]
async fn several_plugins_load_each_with_its_own_statics_threads_and_configuration() {
    let mut door = Door::with(&["toy", "other", "agent"]);
    door.settings
        .backends
        .insert("toy".to_owned(), json!({"greeting": "hello"}));
    let drivers = door.load().await;
    assert!(drivers.refused.is_empty(), "{drivers:?}");
    let (toy, other) = (&drivers.backends["toy"], &drivers.backends["other"]);
    for _ in 0..3 {
        probe(&**toy).await;
    }
    let (toy_facts, other_facts) = (probe(&**toy).await.facts, probe(&**other).await.facts);
    assert_eq!(toy_facts["greeting"], "hello");
    assert_eq!(other_facts["greeting"], "");
    // Opening counts as the first call.
    assert_eq!(toy_facts["calls"], "5");
    assert_eq!(other_facts["calls"], "2");
    assert_eq!(toy_facts["thread"], "plug-toy");
    assert_eq!(other_facts["thread"], "plug-other");

    let info = toy.info();
    assert_eq!(
        (info.name.as_str(), info.version.as_str()),
        ("toy", "1.0.0")
    );
    assert_eq!(info.api_version, "1.0.0");
    assert!(info.summary.contains("\"panic\""), "{}", info.summary);
    assert_eq!(info.sha256.as_ref().expect("a hash").len(), 64);
    assert_eq!(drivers.agents["toy"].info().name, "toy");
    assert!(door.root.path().join("data/backends/toy").is_dir());
}

#[tokio::test]
async fn documents_progress_streams_and_events_cross() {
    everything_crosses(&Door::with(&["toy"])).await;
}

#[tokio::test]
async fn documents_progress_streams_and_events_cross_to_another_process() {
    everything_crosses(&Door::with_processes(&["toy"])).await;
}

async fn everything_crosses(door: &Door) {
    let drivers = door.load().await;
    assert!(drivers.refused.is_empty(), "{drivers:?}");
    let toy = &drivers.backends["toy"];
    let (sender, mut progress) = mpsc::channel(4);
    let made = toy
        .create(call().with_progress(sender), &create("work"))
        .await
        .expect("made");
    assert_eq!(
        made.handle,
        json!({"v": 1, "id": "0190", "options": {"deep": [1, {"x": null}]}})
    );
    assert_eq!(made.warnings, ["a toy has no memory limit"]);
    let told = progress.recv().await.expect("progress");
    assert_eq!(
        (told.message.as_str(), told.done),
        ("making a toy", Some(1))
    );

    let stream = toy.connect(call(), &place("work")).await.expect("a stream");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let write = async {
        writer.write_all(&sent).await.expect("written");
        writer.shutdown().await.expect("half closed");
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(write, reader.read_to_end(&mut received));
    read.expect("read");
    assert!(received == sent, "4 MB of bytes come back as they were");

    let watch = WatchRequest::default();
    let mut events = toy.watch(call(), &watch).await.expect("events");
    for number in 0..10 {
        let event = events.recv().await.expect("an event");
        assert_eq!(event.session_id, number.to_string());
    }
    toy.shutdown(LIMIT).await;
    assert_eq!(events.recv().await, None, "ended with the driver");
}

#[tokio::test]
async fn the_log_of_a_plugin_is_in_the_hosts() {
    let log = log();
    let drivers = Door::with(&["other"]).load().await;
    let other = &drivers.backends["other"];
    probe(&**other).await;
    let _ = other.start(call(), &place("panic")).await;
    let text = log.lock().expect("the log").clone();
    let text = String::from_utf8_lossy(&text);
    for part in [
        "probed by tracing",
        "probed by log",
        "request_id",
        "the toy broke",
        "toy.rs",
    ] {
        let line = text
            .lines()
            .find(|line| line.contains(part) && line.contains("other"));
        assert!(line.is_some(), "{part:?} is not in the log:\n{text}");
    }
}

#[tokio::test]
async fn a_newer_minor_of_the_api_is_taken() {
    let drivers = Door::with(&["newer-api"]).load().await;
    let toy = &drivers.backends["toy"];
    assert_eq!(toy.info().api_version, "1.1.0");
    for (operation, error) in each_operation(&**toy, "work", LIMIT).await {
        assert_eq!(error, None, "{operation}");
    }
}

#[test]
fn an_older_minor_of_the_api_is_taken_and_lacks_only_what_is_new() {
    let libraries = Libraries::get();
    let output = Command::new(libraries.program("newer-host"))
        .arg(libraries.path("toy"))
        .output()
        .expect("the newer host runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(
        answer,
        json!({
            "host": "1.1.0",
            "plugin": "1.0.0",
            "available": true,
            "hibernate": "Some(Unsupported)",
            "has_field": false,
        })
    );
}

#[tokio::test]
async fn another_layout_is_refused() {
    let libraries = &["wrong-layout"];
    for door in [Door::with(libraries), Door::with_processes(libraries)] {
        let drivers = door.load().await;
        let reason = only_reason(&drivers);
        assert!(
            reason.starts_with("its types are laid out otherwise"),
            "{reason}"
        );
        assert!(reason.contains("1.0.1"), "{reason}");
        assert!(reason.contains("build it again"), "{reason}");
        assert!(reason.len() < 700, "{reason}");
        assert_eq!(drivers.refused[0].name.as_deref(), Some("toy"));
    }
    still_opens().await;
}

#[tokio::test]
async fn of_two_with_one_name_the_higher_version_is_taken_and_both_are_named() {
    let drivers = Door::with(&["toy", "toy-newer-version"]).load().await;
    assert_eq!(drivers.backends["toy"].info().version, "1.10.0");
    let refused = &drivers.refused[0];
    assert!(refused.path.ends_with("toy.so"));
    assert!(
        refused.reason.contains("toy-newer-version.so"),
        "{}",
        refused.reason
    );
    assert!(
        refused.reason.contains("higher version"),
        "{}",
        refused.reason
    );
    assert!(refused.reason.contains("remove one"), "{}", refused.reason);
}

#[tokio::test]
async fn of_two_folders_the_earlier_wins_whatever_the_versions() {
    let mut door = Door::with(&["toy"]);
    let later = door.folder("later");
    put(&later, "toy-newer-version");
    let drivers = door.load().await;
    assert_eq!(drivers.backends["toy"].info().version, "1.0.0");
    let reason = &drivers.refused[0].reason;
    assert!(reason.contains("earlier folder"), "{reason}");
}

#[tokio::test]
async fn one_that_cannot_be_opened_gives_way_to_the_next_of_its_name() {
    let mut door = Door::with(&["wrong-layout"]);
    let later = door.folder("later");
    put(&later, "toy");
    let drivers = door.load().await;
    assert!(probe(&*drivers.backends["toy"]).await.available);
    assert_eq!(drivers.refused.len(), 1, "{drivers:?}");
    assert!(drivers.refused[0].path.ends_with("wrong-layout.so"));
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_before_it_runs() {
    let whole = fs::read(Libraries::get().path("toy")).expect("a built library");
    let half = &whole[..whole.len() / 2];
    let program = fs::read(std::env::current_exe().expect("this program")).expect("read");
    for (name, bytes, expected) in [
        ("empty.so", &b""[..], "not a whole shared library"),
        ("text.so", b"not a library\n", "not a whole shared library"),
        ("truncated.so", half, "build it or copy it again"),
        ("header-only.so", &whole[..64], "not a whole shared library"),
        ("program.so", &program, "export_plugin!"),
    ] {
        let mut door = Door::new();
        let folder = door.folder("plugins");
        put_bytes(&folder, name, bytes);
        let drivers = door.load().await;
        let reason = only_reason(&drivers);
        assert!(reason.contains(expected), "{name}: {reason}");
    }
    let drivers = Door::with(&["no-plugin"]).load().await;
    let reason = only_reason(&drivers);
    assert!(reason.contains(".berth.abi"), "{reason}");
    assert!(reason.contains("export_plugin!"), "{reason}");
    still_opens().await;
}

#[tokio::test]
async fn what_others_can_write_is_refused() {
    let mut door = Door::new();
    let folder = door.folder("plugins");
    let file = put(&folder, "toy");
    for (path, mode, back) in [(&file, 0o666, 0o644), (&folder, 0o775, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
        let drivers = door.load().await;
        let reason = only_reason(&drivers);
        assert!(reason.contains("chmod go-w"), "{reason}");
        fs::set_permissions(path, fs::Permissions::from_mode(back)).expect("permissions");
    }
    assert_eq!(door.load().await.backends.len(), 1);
}

#[tokio::test]
async fn a_plugin_that_aborts_on_panic_is_refused() {
    let drivers = Door::with(&["toy-that-aborts"]).load().await;
    let reason = only_reason(&drivers);
    assert!(reason.contains("panic = \"abort\""), "{reason}");
    assert!(reason.contains("isolation = \"process\""), "{reason}");
    still_opens().await;
}

#[tokio::test]
async fn a_plugin_that_fails_to_open_is_refused_and_leaves_the_others_alone() {
    let drivers = Door::with(&["describe-panics", "other"]).load().await;
    assert!(probe(&*drivers.backends["other"]).await.available);
    let reason = &drivers.refused[0].reason;
    assert!(reason.contains("nothing can be said of it"), "{reason}");

    for (config, expected) in [
        (json!({"open": "panic"}), "the toy broke"),
        (json!({"open": "hang"}), "did not answer `open`"),
        (json!({"open": "fail"}), "tell it otherwise"),
        (json!({"greeting": 1}), "backends.toy.greeting"),
        (
            json!({"greetin": ""}),
            "backends.toy.greetin: there is no such option",
        ),
    ] {
        let mut door = Door::with(&["toy", "agent"]);
        door.settings.step_limit = Some(Duration::from_secs(2));
        door.settings.backends.insert("toy".to_owned(), config);
        let drivers = door.load().await;
        assert!(drivers.backends.is_empty());
        assert_eq!(drivers.agents.len(), 1, "the agent is loaded");
        let reason = &drivers.refused[0].reason;
        assert!(reason.contains(expected), "{reason}");
    }

    let mut door = Door::with(&["agent"]);
    door.settings.step_limit = Some(Duration::from_millis(500));
    for word in ["panic", "hang"] {
        door.settings
            .agents
            .insert("toy".to_owned(), json!({"open": word}));
        assert!(!only_reason(&door.load().await).is_empty());
    }
    still_opens().await;
}

#[tokio::test]
async fn a_panic_in_any_operation_is_that_calls_error() {
    let drivers = Door::with(&["toy", "other"]).load().await;
    let toy = &drivers.backends["toy"];
    for (operation, error) in each_operation(&**toy, "panic", LIMIT).await {
        let error = error.unwrap_or_else(|| panic!("{operation} works"));
        match error.code {
            Code::Panic => assert!(
                error.message.contains("toy.rs:") && error.message.contains("the toy broke"),
                "{operation}: {error}"
            ),
            // After too many.
            Code::Unavailable => assert!(error.message.contains("out of service"), "{error}"),
            _ => panic!("{operation}: {error}"),
        }
    }
    assert!(matches!(toy.health(), DriverHealth::Degraded { .. }));
    assert!(probe(&*drivers.backends["other"]).await.available);
    still_opens().await;
}

#[tokio::test]
async fn a_panic_in_probe_and_shutdown_is_contained() {
    let mut door = Door::with(&["toy"]);
    door.settings
        .backends
        .insert("toy".to_owned(), json!({"probe": "panic"}));
    let drivers = door.load().await;
    let toy = &drivers.backends["toy"];
    let error = toy.probe(call()).await.expect_err("it panics");
    assert_eq!(error.code, Code::Panic);
    toy.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_hang_in_any_operation_ends_with_its_limit() {
    let drivers = Door::with(&["toy", "other"]).load().await;
    let toy = &drivers.backends["toy"];
    for (operation, error) in each_operation(&**toy, "hang", SHORT).await {
        let Some(error) = error else {
            assert_eq!(operation, "watch", "only its events are awaited");
            continue;
        };
        match error.code {
            Code::Deadline => {
                assert!(error.message.contains(operation), "{error}");
                assert!(error.may_have_happened);
            }
            Code::Unavailable => assert!(error.message.contains("out of service"), "{error}"),
            _ => panic!("{operation}: {error}"),
        }
    }
    assert!(matches!(toy.health(), DriverHealth::Degraded { .. }));
    assert!(probe(&*drivers.backends["other"]).await.available);
    still_opens().await;
}

#[tokio::test]
async fn a_plugin_that_blocks_all_its_threads_holds_up_nobody_else() {
    let drivers = Door::with(&["toy", "other"]).load().await;
    let toy = &drivers.backends["toy"];
    for _ in 0..3 {
        let error = toy
            .start(Call::new(SHORT), &place("block"))
            .await
            .expect_err("it blocks");
        assert_eq!(error.code, Code::Deadline);
    }
    assert!(toy.probe(Call::new(SHORT)).await.is_err());
    toy.shutdown(SHORT).await;
    assert!(probe(&*drivers.backends["other"]).await.available);
}

#[tokio::test]
async fn an_agent_that_panics_or_hangs_is_contained() {
    let drivers = Door::with(&["agent"]).load().await;
    let agent: &Arc<dyn AgentDriver> = &drivers.agents["toy"];
    let deliver = |content: &str| DeliverRequest {
        content: content.to_owned(),
        ..DeliverRequest::default()
    };
    let panicking = LaunchRequest {
        prompt: Some("panic".to_owned()),
        ..LaunchRequest::default()
    };
    let error = agent.launch(&panicking).await.expect_err("it panics");
    assert_eq!(error.code, Code::Panic);
    let error = agent
        .deliver(&deliver("panic"))
        .await
        .expect_err("it panics");
    assert!(error.message.contains("the toy broke"), "{error}");
    let from = |state| DecoderRequest {
        state,
        ..DecoderRequest::default()
    };
    let error = agent
        .decoder(&from(json!("panic")))
        .await
        .expect_err("it panics");
    assert_eq!(error.code, Code::Panic);

    let mut decoder = agent.decoder(&from(json!(7))).await.expect("a decoder");
    let events = decoder.feed(0, b"x").await.expect("events");
    assert_eq!(events, [AgentEvent::Native { id: "8".to_owned() }]);
    assert_eq!(decoder.state().await.expect("a state"), json!(8));
    let error = decoder.feed(0, b"panic").await.expect_err("it panics");
    assert_eq!(error.code, Code::Panic);

    let (hang, work) = (deliver("hang"), deliver("work"));
    let (hang, work) = tokio::join!(agent.deliver(&hang), agent.deliver(&work));
    assert_eq!(hang.expect_err("it hangs").code, Code::Deadline);
    assert_eq!(work.expect("it works").typed[0].text, "work");
}

fn pid_of(probe: &Probe) -> i32 {
    probe.facts["pid"].parse().expect("a number")
}

#[tokio::test]
async fn a_plugin_in_a_process_of_its_own_is_opened_again_when_that_is_lost() {
    let log = log();
    let mut door = Door::with_processes(&["toy"]);
    door.settings
        .backends
        .insert("toy".to_owned(), json!({"greeting": "hello"}));
    let drivers = door.load().await;
    let toy = &drivers.backends["toy"];
    let first = pid_of(&probe(&**toy).await);
    assert_ne!(u32::try_from(first).expect("positive"), std::process::id());

    let mut stream = toy.connect(call(), &place("work")).await.expect("a stream");
    let (hanging, kill) = (place("hang"), async {
        stream.write_all(b"x").await.expect("written");
        assert_eq!(stream.read_u8().await.expect("an echo"), b'x');
        kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
    });
    let (under_way, ()) = tokio::join!(toy.start(call(), &hanging), kill);
    let error = under_way.expect_err("its process was killed");
    assert_eq!(error.code, Code::PluginLost);
    assert!(error.message.contains("SIGKILL"), "{error}");
    assert!(error.may_have_happened);
    assert!(stream.read_u8().await.is_err(), "its stream is broken");

    let again = probe(&**toy).await;
    assert_ne!(pid_of(&again), first);
    assert_eq!(again.facts["greeting"], "hello");
    let text = log.lock().expect("the log").clone();
    assert!(String::from_utf8_lossy(&text).contains("probed by tracing"));

    let last = pid_of(&again);
    drop(drivers);
    eventually("the plugin's process is gone", async || {
        match fs::exists(format!("/proc/{last}")) {
            Ok(false) => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
}

#[tokio::test]
async fn a_plugin_that_aborts_on_panic_runs_in_a_process_of_its_own() {
    let drivers = Door::with_processes(&["toy-that-aborts"]).load().await;
    let toy = &drivers.backends["toy"];
    assert!(probe(&**toy).await.available);
    let error = toy
        .start(call(), &place("panic"))
        .await
        .expect_err("aborts");
    assert_eq!(error.code, Code::PluginLost);
    assert!(error.message.contains("SIGABRT"), "{error}");
    assert!(probe(&**toy).await.available);
}

#[tokio::test]
async fn an_agent_works_in_a_process_of_its_own() {
    let mut door = Door::with_processes(&["agent", "toy"]);
    door.settings
        .backends
        .insert("toy".to_owned(), json!({"greeting": 1}));
    let drivers = door.load().await;
    let reason = &drivers.refused[0].reason;
    assert!(reason.contains("backends.toy.greeting"), "{reason}");

    let agent = &drivers.agents["toy"];
    let request = DeliverRequest {
        content: "work".to_owned(),
        ..DeliverRequest::default()
    };
    let delivery = agent.deliver(&request).await.expect("an answer");
    assert_eq!(delivery.typed[0].text, "work");
    let mut decoder = agent
        .decoder(&DecoderRequest::default())
        .await
        .expect("a decoder");
    let events = decoder.feed(0, b"x").await.expect("events");
    assert_eq!(events, [AgentEvent::Native { id: "1".to_owned() }]);
    assert_eq!(decoder.state().await.expect("a state"), json!(1));
    let error = decoder.feed(0, b"panic").await.expect_err("it panics");
    assert_eq!(error.code, Code::Panic);
}

#[tokio::test]
async fn a_check_names_each_duty_and_what_breaks_it() {
    let broken = |report: &Report| -> Vec<&'static str> {
        let broken = |finding: &&Finding| matches!(finding.outcome, Outcome::Broken(_));
        let findings = report.findings.iter().filter(broken);
        findings.map(|finding| finding.duty).collect()
    };
    let libraries = Libraries::get();
    for (library, config, expected) in [
        // A toy says of everything that it runs, and its manifest has no homepage.
        ("toy", json!({}), &["L-02", "B-01"][..]),
        ("toy", json!({"probe": "panic"}), &["L-02", "B-01"]),
        ("toy", json!({"greeting": 1}), &["L-02", "L-04"]),
        ("agent", json!({}), &["L-02", "A-01", "A-05"]),
        ("describe-panics", json!({}), &["L-02", "L-04"]),
        ("no-plugin", json!({}), &["L-01"]),
    ] {
        let folder = TempDir::new().expect("a folder");
        let file = put_bytes(
            folder.path(),
            "plugin.so",
            &fs::read(libraries.path(library)).expect("built"),
        );
        let report = check(&file, Some(config)).await;
        assert!(!report.conforms(), "{report}");
        for duty in expected {
            assert!(
                broken(&report).contains(duty),
                "{duty} of {library}:\n{report}"
            );
        }
    }
    still_opens().await;
}

#[tokio::test]
async fn the_plugins_that_come_with_berth_conform() {
    let mut checked = 0;
    for entry in fs::read_dir(Layout::get().plugins()).expect("berth's plugins") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "so") {
            continue;
        }
        let report = check(&path, None).await;
        assert!(report.conforms(), "{report}");
        checked += 1;
    }
    assert!(checked >= 2, "a backend and an agent at least");
}

/// All that this program logs, as text.
fn log() -> Arc<Mutex<Vec<u8>>> {
    #[derive(Clone)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Ok(mut log) = self.0.lock() {
                log.extend_from_slice(bytes);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink(Arc::clone(&log));
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || sink.clone())
            .init();
        log
    });
    Arc::clone(log)
}
