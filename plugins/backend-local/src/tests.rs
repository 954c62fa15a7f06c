use super::*;
use crate::config::UseCgroups;
use berth_plugin_api::doc::{KeeperProgram, WatchEvent};
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take before a test says what it waited for.
const LIMIT: Duration = Duration::from_secs(20);
const INSTANCE: &str = "test-instance";

/// Not a test of its own: what the tests below start as a keeper is this very program, told by its environment what to do.
#[test]
fn fake_keeper() {
    let Ok(role) = std::env::var("FAKE_KEEPER") else {
        return;
    };
    let state = PathBuf::from(std::env::var("BERTH_STATE").unwrap());
    match role.as_str() {
        "serve" => serve(&state),
        "serve_late" => {
            std::thread::sleep(Duration::from_millis(300));
            serve(&state);
        }
        "exit" => fs::write(state.join("exit.json"), r#"{"boot_id":"x","exit_code":3}"#).unwrap(),
        "breed" => {
            nix::sys::prctl::set_child_subreaper(true).unwrap();
            breed(&state);
            serve(&state);
        }
        "tell" => {
            // This thread's own: while a thread is being made, the one that makes it blocks every signal.
            let told = ["status", "stat", "environ"]
                .map(|file| fs::read(format!("/proc/thread-self/{file}")).unwrap());
            for (name, bytes) in ["status", "stat", "environ"].iter().zip(told) {
                fs::write(state.join(name), bytes).unwrap();
            }
            let open = fs::read_dir("/proc/self/fd").unwrap();
            let open: Vec<String> = open
                .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
                .map(|target| target.display().to_string())
                .collect();
            fs::write(state.join("fds"), open.join("\n")).unwrap();
            fs::write(
                state.join("cwd"),
                std::env::current_dir().unwrap().to_str().unwrap(),
            )
            .unwrap();
            serve(&state);
        }
        other => panic!("no such role: {other}"),
    }
}

/// Echoes what comes by the socket, on each connection.
fn serve(state: &Path) {
    let listener = UnixListener::bind(state.join("keeper.sock")).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
    }
}

/// Leaves processes behind in every way there is: a child, an orphan in a process session of its own, one that has
/// lost its environment too.
fn breed(state: &Path) {
    let pids = state.join("pids");
    let line = format!(
        "echo $$ >> {0}; (setsid sh -c 'echo $$ >> {0}; exec sleep 1000' &) ; (env -i setsid /bin/sh -c 'echo $$ >> {0}; exec sleep 1000' &) ; exec sleep 1000",
        pids.display()
    );
    let mut shell = Command::new("/bin/sh").args(["-c", &line]).spawn().unwrap();
    std::thread::spawn(move || shell.wait());
}

struct Fixture {
    folder: tempfile::TempDir,
    backend: LocalBackend,
    cx: Cx,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|_| None).await
    }

    /// A backend that holds processes together by what `hierarchies` gives.
    async fn with(hierarchies: impl FnOnce(&str) -> Option<Hierarchies>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut backend = open(folder.path()).await;
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        if let Some(hierarchies) = hierarchies(name) {
            backend.hierarchies = Arc::new(hierarchies);
        }
        Self {
            folder,
            backend,
            cx: Cx::detached(),
        }
    }

    async fn create(&self, role: &str) -> SessionRef {
        let session = session();
        let request = CreateRequest {
            session: session.clone(),
            keeper: keeper(role),
            ..CreateRequest::default()
        };
        let place = self.backend.create(&self.cx, request).await.unwrap();
        assert_eq!(place.handle, handle(&session.id));
        assert_eq!(place.warnings, [""; 0]);
        session
    }

    async fn started(&self, role: &str) -> SessionRef {
        let session = self.create(role).await;
        self.backend.start(&self.cx, at(&session)).await.unwrap();
        session
    }

    async fn inspect(&self, session: &SessionRef) -> Inspection {
        self.backend.inspect(&self.cx, at(session)).await.unwrap()
    }

    async fn wait_for(&self, session: &SessionRef, state: PlaceState) -> Inspection {
        let since = Instant::now();
        loop {
            let seen = self.inspect(session).await;
            if seen.state == state {
                return seen;
            }
            assert!(
                since.elapsed() < LIMIT,
                "waited for {state:?}, last seen {seen:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn delete(&self, session: &SessionRef) -> Vec<String> {
        let place = at(session);
        let delete = DeleteRequest { place, data: true };
        self.backend.delete(&self.cx, delete).await.unwrap().removed
    }

    fn state(&self, session: &SessionRef) -> PathBuf {
        self.folder
            .path()
            .join("places")
            .join(&session.id)
            .join("state")
    }

    fn keeper(&self, session: &SessionRef) -> process::Process {
        let place = self.backend.places.place(&session.id).unwrap();
        lifecycle::is_running(&place)
            .unwrap()
            .expect("the keeper runs")
    }
}

fn at(session: &SessionRef) -> PlaceRequest {
    PlaceRequest {
        session: session.clone(),
        handle: handle(&session.id),
    }
}

async fn open(folder: &Path) -> LocalBackend {
    LocalBackend::open(OpenRequest {
        data_dir: folder.to_owned(),
        instance: INSTANCE.to_owned(),
        ..OpenRequest::default()
    })
    .await
    .unwrap()
}

/// A session that no other test, run or machine has.
fn session() -> SessionRef {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    SessionRef {
        id: format!("test-{}-{count}", std::process::id()),
        name: "a-session".to_owned(),
        instance: INSTANCE.to_owned(),
    }
}

fn keeper(role: &str) -> KeeperProgram {
    KeeperProgram {
        path: std::env::current_exe().unwrap(),
        args: ["--exact", "tests::fake_keeper", "--nocapture"]
            .map(str::to_owned)
            .to_vec(),
        env: BTreeMap::from([("FAKE_KEEPER".to_owned(), role.to_owned())]),
    }
}

async fn echo(stream: &mut Stream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, text.as_bytes());
}

#[tokio::test]
async fn a_place_lives_through_its_states() {
    let fixture = Fixture::new().await;
    let (backend, cx) = (&fixture.backend, &fixture.cx);
    assert!(backend.probe(cx).await.unwrap().available);
    let session = fixture.create("serve").await;
    let request = at(&session);
    assert_eq!(fixture.inspect(&session).await.state, PlaceState::Created);
    let error = backend.connect(cx, request.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);

    backend.start(cx, request.clone()).await.unwrap();
    assert_eq!(fixture.inspect(&session).await.state, PlaceState::Running);
    let mut first = backend.connect(cx, request.clone()).await.unwrap();
    let mut second = backend.connect(cx, request.clone()).await.unwrap();
    echo(&mut first, "one").await;
    echo(&mut second, "two").await;

    let listed = backend
        .list(
            cx,
            ListRequest {
                instance: INSTANCE.to_owned(),
            },
        )
        .await
        .unwrap();
    assert_eq!(listed.places.len(), 1);
    assert_eq!(listed.places[0].session_id, session.id);
    assert_eq!(listed.places[0].inspection.state, PlaceState::Running);
    let others = ListRequest {
        instance: "another".to_owned(),
    };
    assert!(backend.list(cx, others).await.unwrap().places.is_empty());

    let stop = StopRequest {
        place: request.clone(),
        grace_ms: 5_000,
    };
    backend.stop(cx, stop.clone()).await.unwrap();
    let seen = fixture.inspect(&session).await;
    assert_eq!(
        (seen.state, seen.exit_code),
        (PlaceState::Exited, Some(137))
    );
    backend.stop(cx, stop).await.unwrap();

    backend.start(cx, request.clone()).await.unwrap();
    let mut again = backend.connect(cx, request.clone()).await.unwrap();
    echo(&mut again, "three").await;

    assert_eq!(fixture.delete(&session).await, ["processes", "folder"]);
    assert_eq!(fixture.inspect(&session).await.state, PlaceState::Missing);
    assert_eq!(fixture.delete(&session).await, [""; 0]);
    let error = backend.start(cx, request.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    backend
        .stop(
            cx,
            StopRequest {
                place: request,
                grace_ms: 0,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        fs::read_dir(fixture.folder.path().join("places"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn a_place_is_made_once_and_starts_one_keeper() {
    let fixture = Fixture::new().await;
    let session = fixture.create("serve").await;
    let starts = (0..16).map(|_| fixture.backend.start(&fixture.cx, at(&session)));
    let mut starts: Vec<_> = starts.map(Box::pin).collect();
    for start in &mut starts {
        // All of them are on their way before the first has its answer.
        assert!(
            std::future::poll_fn(|cx| std::task::Poll::Ready(start.as_mut().poll(cx).is_pending()))
                .await
        );
    }
    for start in starts {
        start.await.unwrap();
    }
    let mark = format!("BERTH_SESSION={}", session.id);
    let marked = process::all().unwrap();
    let marked = marked
        .iter()
        .filter(|stat| process::has_variable(stat.process.pid, &mark));
    assert_eq!(marked.count(), 1);

    let again = CreateRequest {
        session: session.clone(),
        keeper: keeper("exit"),
        ..CreateRequest::default()
    };
    fixture
        .backend
        .create(&fixture.cx, again.clone())
        .await
        .unwrap();
    assert_eq!(fixture.inspect(&session).await.state, PlaceState::Running);
    let mut foreign = again;
    foreign.session.instance = "another".to_owned();
    let error = fixture
        .backend
        .create(&fixture.cx, foreign)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists);
    fixture.delete(&session).await;
}

#[tokio::test]
async fn what_ended_tells_its_exit_code() {
    let fixture = Fixture::new().await;
    let session = fixture.started("exit").await;
    let seen = fixture.wait_for(&session, PlaceState::Exited).await;
    assert_eq!((seen.exit_code, seen.error_message), (Some(3), None));
    let error = fixture
        .backend
        .connect(&fixture.cx, at(&session))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert_eq!(fixture.delete(&session).await, ["folder"]);

    let session = fixture.started("serve").await;
    fixture
        .keeper(&session)
        .signal(nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let seen = fixture.wait_for(&session, PlaceState::Exited).await;
    assert_eq!(seen.exit_code, Some(137));
    assert!(seen.error_message.is_some());
    fixture.delete(&session).await;
}

#[tokio::test]
async fn connecting_waits_for_a_keeper_that_has_just_started() {
    let fixture = Fixture::new().await;
    let session = fixture.started("serve_late").await;
    let mut stream = fixture
        .backend
        .connect(&fixture.cx, at(&session))
        .await
        .unwrap();
    echo(&mut stream, "late").await;
    fixture.delete(&session).await;
}

#[tokio::test]
async fn a_running_place_is_found_again() {
    let fixture = Fixture::new().await;
    let session = fixture.started("serve").await;
    let keeper = fixture.keeper(&session);
    let later = open(fixture.folder.path()).await;
    let request = PlaceRequest {
        session: session.clone(),
        handle: Value::Null,
    };
    later.start(&fixture.cx, request.clone()).await.unwrap();
    assert_eq!(fixture.keeper(&session), keeper);
    let mut stream = later.connect(&fixture.cx, request).await.unwrap();
    echo(&mut stream, "found").await;

    // A number that was used again is not the keeper: same number, another start time.
    let run = fixture
        .folder
        .path()
        .join("places")
        .join(&session.id)
        .join("run");
    let told = fs::read_to_string(&run).unwrap();
    fs::write(&run, told.replace(" 0 -1 ", " 0 -2 ")).unwrap();
    assert_eq!(fixture.inspect(&session).await.state, PlaceState::Running);
    let (head, stat) = told.split_once('\n').unwrap();
    let mut fields: Vec<&str> = stat.split(' ').collect();
    let count = fields.len();
    let start_time = fields
        .iter()
        .rposition(|_| true)
        .map(|_| count - 52 + 21)
        .unwrap();
    fields[start_time] = "1";
    fs::write(&run, format!("{head}\n{}", fields.join(" "))).unwrap();
    assert_eq!(fixture.inspect(&session).await.state, PlaceState::Exited);
    fs::write(&run, told).unwrap();
    fixture.delete(&session).await;
}

#[tokio::test]
async fn a_keeper_that_cannot_start_leaves_nothing() {
    let fixture = Fixture::new().await;
    let session = session();
    let request = CreateRequest {
        session: session.clone(),
        keeper: KeeperProgram {
            path: "/nowhere/keeper".into(),
            ..KeeperProgram::default()
        },
        ..CreateRequest::default()
    };
    fixture.backend.create(&fixture.cx, request).await.unwrap();
    let error = fixture
        .backend
        .start(&fixture.cx, at(&session))
        .await
        .unwrap_err();
    assert!(error.message.contains("/nowhere/keeper"), "{error}");
    assert_eq!(fixture.inspect(&session).await.state, PlaceState::Created);
    fixture.delete(&session).await;
}

#[tokio::test]
async fn an_id_that_is_no_folder_name_is_refused() {
    let fixture = Fixture::new().await;
    for id in ["", ".", "..", "a/b", "a b", &"x".repeat(65)] {
        let session = SessionRef {
            id: id.to_owned(),
            ..SessionRef::default()
        };
        let error = fixture
            .backend
            .inspect(&fixture.cx, at(&session))
            .await
            .unwrap_err();
        assert_eq!(error.detail.field.as_deref(), Some("session.id"), "{id:?}");
    }
}

/// Kills what `breed` left by deleting its place, and sees that it is gone.
async fn delete_leaves_no_process(fixture: &Fixture, kill_keeper_first: bool) {
    let session = fixture.started("breed").await;
    let file = fixture.state(&session).join("pids");
    let since = Instant::now();
    let pids: Vec<i32> = loop {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(&file) {
            file.read_to_string(&mut text).unwrap();
        }
        if text.lines().count() == 3 && text.ends_with('\n') {
            break text.lines().map(|line| line.parse().unwrap()).collect();
        }
        assert!(since.elapsed() < LIMIT, "three processes, not {text:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let mut bred: Vec<process::Process> = pids
        .iter()
        .map(|pid| process::Stat::of(*pid).expect("it runs").process)
        .collect();
    assert!(bred.iter().all(|process| process.is_alive()));
    bred.push(fixture.keeper(&session));
    if kill_keeper_first {
        bred.last()
            .unwrap()
            .signal(nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        fixture.wait_for(&session, PlaceState::Exited).await;
    }
    fixture.delete(&session).await;
    let left: Vec<_> = bred.iter().filter(|process| process.is_alive()).collect();
    assert!(left.is_empty(), "{left:?} of {bred:?}");
}

#[tokio::test]
async fn delete_leaves_no_process_of_a_group() {
    let fixture = Fixture::new().await;
    if fixture
        .backend
        .hierarchies
        .to_string()
        .starts_with("followed")
    {
        return; // This machine lets us make no groups; the next test is what holds here.
    }
    delete_leaves_no_process(&fixture, false).await;
    delete_leaves_no_process(&fixture, true).await;
}

#[tokio::test]
async fn delete_leaves_no_process_of_an_old_group() {
    let fixture = Fixture::with(cgroup::tests::version_1).await;
    if fixture
        .backend
        .hierarchies
        .to_string()
        .contains("version 1")
    {
        delete_leaves_no_process(&fixture, false).await;
        delete_leaves_no_process(&fixture, true).await;
    }
}

#[tokio::test]
async fn delete_leaves_no_process_of_a_tree() {
    let fixture =
        Fixture::with(|instance| Some(Hierarchies::find(UseCgroups::Never, instance))).await;
    assert!(
        fixture
            .backend
            .hierarchies
            .to_string()
            .starts_with("followed")
    );
    delete_leaves_no_process(&fixture, false).await;
}

#[tokio::test]
async fn a_keeper_starts_with_clean_hands() {
    let fixture = Fixture::new().await;
    // What a careless library would leave open for all children.
    let inherited = fs::File::open("/etc/hostname").unwrap();
    nix::fcntl::fcntl(
        &inherited,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let session = fixture.started("tell").await;
    let mut stream = fixture
        .backend
        .connect(&fixture.cx, at(&session))
        .await
        .unwrap();
    echo(&mut stream, "ready").await;
    let state = fixture.state(&session);
    let told = |file: &str| fs::read_to_string(state.join(file)).unwrap();

    let environ = told("environ");
    let mut names: Vec<&str> = environ
        .split_terminator('\0')
        .map(|entry| entry.split_once('=').unwrap().0)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["BERTH_SESSION", "BERTH_STATE", "FAKE_KEEPER", "PATH"]
    );
    assert!(environ.contains(&format!("BERTH_STATE={}\0", state.display())));
    assert_eq!(told("cwd"), "/");
    let open = told("fds");
    assert!(!open.contains("hostname"), "{open}");
    assert!(
        !open.contains("/places/")
            || open.matches("/places/").count() == open.matches("keeper.log").count(),
        "{open}"
    );
    let status = told("status");
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
    };
    assert_eq!(field("SigBlk:"), "0000000000000000");
    assert_eq!(
        u64::from_str_radix(field("SigIgn:"), 16).unwrap() & 0b110,
        0
    );
    assert_eq!(field("Umask:"), "0022");
    // In a process session of its own, and no child of ours.
    let stat = told("stat");
    let fields: Vec<i64> = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .skip(1)
        .take(3)
        .map(|field| field.parse().unwrap())
        .collect();
    assert_ne!(fields[0], i64::from(std::process::id()));
    let ours = nix::unistd::getsid(None).unwrap();
    assert_ne!(fields[2], i64::from(ours.as_raw()));
    fixture.delete(&session).await;
}

#[tokio::test]
async fn limits_are_set_where_the_machine_has_them() {
    let fixture = Fixture::new().await;
    let session = session();
    let request = CreateRequest {
        session: session.clone(),
        keeper: keeper("serve"),
        resources: berth_plugin_api::doc::Resources {
            cpu: Some(0.5),
            memory_bytes: Some(512 << 20),
        },
        ..CreateRequest::default()
    };
    let place = fixture.backend.create(&fixture.cx, request).await.unwrap();
    fixture
        .backend
        .start(&fixture.cx, at(&session))
        .await
        .unwrap();
    let run = fixture
        .backend
        .places
        .place(&session.id)
        .unwrap()
        .run()
        .unwrap()
        .unwrap();
    let read = |names: [&str; 2]| {
        let groups = run
            .head
            .group
            .limiters
            .iter()
            .chain(&run.head.group.collector);
        groups
            .flat_map(|group| names.map(|name| group.join(name)))
            .find_map(|file| fs::read_to_string(file).ok())
    };
    if place.warnings.is_empty() {
        let memory = read(["memory.limit_in_bytes", "memory.max"]).unwrap();
        assert_eq!(memory.trim(), (512_u64 << 20).to_string());
        let cpu = read(["cpu.cfs_quota_us", "cpu.max"]).unwrap();
        assert!(cpu.starts_with("50000"), "{cpu}");
    }
    fixture.delete(&session).await;
    let left = run
        .head
        .group
        .limiters
        .iter()
        .chain(&run.head.group.collector)
        .find(|group| group.exists());
    assert_eq!(left, None);
}

#[tokio::test]
async fn watching_tells_what_is_there_and_each_change() {
    let fixture = Fixture::new().await;
    let before = fixture.started("serve").await;
    let (sink, mut events) = WatchSink::channel();
    let request = WatchRequest {
        instance: INSTANCE.to_owned(),
    };
    let watching = fixture.backend.watch(&fixture.cx, request, sink);
    let acting = async {
        let mut next = async || -> WatchEvent {
            tokio::time::timeout(LIMIT, events.recv())
                .await
                .expect("an event in time")
                .expect("watching goes on")
        };
        let event = next().await;
        assert_eq!(
            (event.session_id, event.inspection.state),
            (before.id.clone(), PlaceState::Running)
        );
        let session = fixture.create("serve").await;
        let event = next().await;
        assert_eq!(
            (event.session_id.as_str(), event.inspection.state),
            (session.id.as_str(), PlaceState::Created)
        );
        fixture
            .backend
            .start(&fixture.cx, at(&session))
            .await
            .unwrap();
        assert_eq!(next().await.inspection.state, PlaceState::Running);
        fixture
            .keeper(&session)
            .signal(nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        let event = next().await;
        assert_eq!(
            (event.inspection.state, event.inspection.exit_code),
            (PlaceState::Exited, Some(137))
        );
        fixture.delete(&session).await;
        assert_eq!(next().await.inspection.state, PlaceState::Missing);
        fixture.delete(&before).await;
    };
    tokio::select! {
        ended = watching => panic!("watching ended: {ended:?}"),
        () = acting => {}
    }
}
