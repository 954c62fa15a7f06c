//! The driver before plugins that misbehave in every operation. They are linked into the test, and go through the same
//! frozen types as plugins from files.

use super::linked::{linked_agent_with, linked_backend_with};
use super::watchdog::ServiceRules;
use super::*;
use berth_plugin_api::doc::{OpenRequest, PlaceState, Progress, SessionRef};
use berth_plugin_api::{Agent, Backend, Code, Cx, Decoder, Error, WatchSink};
use serde_json::json;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(20);

/// Does what the session's name says: `work`, `panic` or `hang`.
struct Toy;

async fn act(session: &SessionRef) {
    match session.name.as_str() {
        "panic" => panic!("the toy broke"),
        "hang" => std::future::pending().await,
        _ => {}
    }
}

impl Backend for Toy {
    fn describe() -> BackendDescription {
        BackendDescription::default()
    }

    async fn open(request: OpenRequest) -> Result<Self> {
        match request.config["fail"].as_str() {
            None => Ok(Self),
            Some("panic") => panic!("the toy cannot be opened"),
            Some(message) => Err(Error::invalid("fail", message)),
        }
    }

    async fn probe(&self, _: &Cx) -> Result<Probe> {
        Ok(Probe {
            available: true,
            ..Probe::default()
        })
    }

    async fn create(&self, cx: &Cx, request: CreateRequest) -> Result<Place> {
        act(&request.session).await;
        cx.progress(Progress {
            message: "making".to_owned(),
            ..Progress::default()
        });
        assert_eq!(cx.time_limit(), Some(LIMIT));
        Ok(Place {
            handle: json!({"id": request.session.id}),
            warnings: vec![],
        })
    }

    async fn start(&self, _: &Cx, request: PlaceRequest) -> Result<()> {
        act(&request.session).await;
        Ok(())
    }

    async fn stop(&self, _: &Cx, request: StopRequest) -> Result<()> {
        act(&request.place.session).await;
        Err(Error::unavailable("the engine is away").with_hint("start it"))
    }

    async fn delete(&self, _: &Cx, request: DeleteRequest) -> Result<Deleted> {
        act(&request.place.session).await;
        Ok(Deleted::default())
    }

    async fn inspect(&self, _: &Cx, request: PlaceRequest) -> Result<Inspection> {
        act(&request.session).await;
        Ok(Inspection::default())
    }

    async fn list(&self, _: &Cx, request: ListRequest) -> Result<Places> {
        act(&SessionRef {
            name: request.instance,
            ..SessionRef::default()
        })
        .await;
        Ok(Places::default())
    }

    /// An echo; with the name `broken` one that panics when it is read.
    async fn connect(&self, _: &Cx, request: PlaceRequest) -> Result<Stream> {
        act(&request.session).await;
        if request.session.name == "broken" {
            let (reader, writer) = (Broken, tokio::io::sink());
            return Ok(Stream::join(reader, writer));
        }
        let (ours, theirs) = tokio::io::duplex(64);
        let (mut reader, mut writer) = tokio::io::split(ours);
        tokio::task::spawn_blocking(|| ());
        let mut pump = tokio::task::JoinSet::new();
        pump.spawn(async move {
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
        pump.detach_all();
        Ok(Stream::new(theirs))
    }

    async fn watch(&self, _: &Cx, request: WatchRequest, sink: WatchSink) -> Result<()> {
        match request.instance.as_str() {
            "panic" => panic!("the toy broke"),
            "unsupported" => return Err(Error::unsupported("watch")),
            _ => {}
        }
        for number in 0.. {
            sink.send(WatchEvent {
                session_id: format!("{number}"),
                inspection: Inspection {
                    state: PlaceState::Running,
                    ..Inspection::default()
                },
            })
            .await?;
        }
        Ok(())
    }
}

struct Broken;

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        panic!("the stream broke")
    }
}

async fn toy() -> Arc<dyn BackendDriver> {
    linked_backend::<Toy>("toy", OpenRequest::default())
        .await
        .unwrap()
}

fn place(name: &str) -> PlaceRequest {
    PlaceRequest {
        session: SessionRef {
            id: "1".to_owned(),
            name: name.to_owned(),
            instance: "i".to_owned(),
        },
        handle: Value::Null,
    }
}

/// Calls every operation that heeds the name, and gives what each came to.
async fn call_all(driver: &dyn BackendDriver, name: &str, limit: Duration) -> Vec<Option<Error>> {
    let call = || Call::new(limit);
    let place = place(name);
    let create = CreateRequest {
        session: place.session.clone(),
        ..CreateRequest::default()
    };
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
    vec![
        driver.create(call(), &create).await.err(),
        driver.start(call(), &place).await.err(),
        driver.stop(call(), &stop).await.err(),
        driver.delete(call(), &delete).await.err(),
        driver.inspect(call(), &place).await.err(),
        driver.list(call(), &list).await.err(),
        driver.connect(call(), &place).await.err(),
    ]
}

#[tokio::test]
async fn calls_cross_with_progress_and_errors_whole() {
    let driver = toy().await;
    let (sender, mut receiver) = mpsc::channel(1);
    let place = driver
        .create(
            Call::new(LIMIT).with_progress(sender),
            &CreateRequest {
                session: place("work").session,
                ..CreateRequest::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(place.handle, json!({"id": "1"}));
    assert_eq!(receiver.recv().await.unwrap().message, "making");

    let error = driver
        .stop(Call::new(LIMIT), &StopRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        Error::unavailable("the engine is away").with_hint("start it")
    );
    let error = driver
        .refresh(Call::new(LIMIT), &RefreshRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
    driver.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_panic_in_any_operation_is_its_error_and_too_many_end_the_service() {
    let driver = toy().await;
    let errors = call_all(&*driver, "panic", LIMIT).await;
    let (contained, refused) = errors.split_at(5);
    for error in contained {
        let error = error.as_ref().unwrap();
        assert_eq!(error.code, Code::Panic, "{error}");
        assert!(error.message.contains("the toy broke"), "{error}");
    }
    for error in refused {
        let error = error.as_ref().unwrap();
        assert_eq!(error.code, Code::Unavailable, "{error}");
        assert!(error.message.contains("out of service"), "{error}");
    }
    assert!(matches!(driver.health(), DriverHealth::Degraded { .. }));
    // Another plugin is not concerned.
    assert!(toy().await.probe(Call::new(LIMIT)).await.unwrap().available);
}

#[tokio::test]
async fn a_hang_in_any_operation_ends_with_its_time_limit() {
    let driver = toy().await;
    for error in call_all(&*driver, "hang", SHORT).await {
        let error = error.unwrap();
        assert!(
            matches!(error.code, Code::Deadline | Code::Unavailable),
            "{error}"
        );
        assert_eq!(error.may_have_happened, error.code == Code::Deadline);
    }
    let DriverHealth::Degraded { reason } = driver.health() else {
        panic!("still in service");
    };
    assert!(reason.contains("did not answer"), "{reason}");
}

#[tokio::test]
async fn a_probe_brings_a_plugin_back_into_service() {
    let rules = ServiceRules {
        first_probe: Duration::from_millis(50),
        ..ServiceRules::default()
    };
    let driver = linked_backend_with::<Toy>("toy", OpenRequest::default(), rules)
        .await
        .unwrap();
    call_all(&*driver, "panic", LIMIT).await;
    assert!(matches!(driver.health(), DriverHealth::Degraded { .. }));
    let back = async {
        while driver.health() != DriverHealth::Ready {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, back)
        .await
        .expect("in service again");
    driver
        .start(Call::new(LIMIT), &place("work"))
        .await
        .unwrap();
}

#[tokio::test]
async fn opening_can_fail_and_panic() {
    let open = |fail: &str| {
        linked_backend::<Toy>(
            "toy",
            OpenRequest {
                config: json!({"fail": fail}),
                ..OpenRequest::default()
            },
        )
    };
    let error = open("no such network").await.unwrap_err();
    assert_eq!(error.detail.field.as_deref(), Some("fail"));
    assert_eq!(open("panic").await.unwrap_err().code, Code::Panic);
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_and_half_closes() {
    let driver = toy().await;
    let stream = driver
        .connect(Call::new(LIMIT), &place("work"))
        .await
        .unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(write, reader.read_to_end(&mut received));
    read.unwrap();
    assert_eq!(received, sent);
}

#[tokio::test]
async fn a_stream_that_panics_fails_its_reader() {
    let driver = toy().await;
    let mut stream = driver
        .connect(Call::new(LIMIT), &place("broken"))
        .await
        .unwrap();
    for _ in 0..2 {
        let error = stream.read_u8().await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}

#[tokio::test]
async fn watching_keeps_the_hosts_pace_and_ends_with_its_interest() {
    let driver = toy().await;
    let watch = |instance: &str| WatchRequest {
        instance: instance.to_owned(),
    };
    let mut events = driver.watch(Call::new(LIMIT), &watch("i")).await.unwrap();
    for number in 0..1000 {
        let event = events.recv().await.unwrap();
        assert_eq!(event.session_id, number.to_string());
    }
    drop(events);
    let error = driver
        .watch(Call::new(LIMIT), &watch("unsupported"))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
    // A panic at once is the answer, one that comes later the end of the events.
    match driver.watch(Call::new(LIMIT), &watch("panic")).await {
        Err(error) => assert_eq!(error.code, Code::Panic),
        Ok(mut events) => assert_eq!(events.recv().await, None),
    }
}

/// Does what the content or the input says.
struct ToyAgent;

struct Counter(u64);

fn compute(word: &str) {
    match word {
        "panic" => panic!("the toy broke"),
        "hang" => loop {
            std::thread::park();
        },
        _ => {}
    }
}

impl Agent for ToyAgent {
    type Decoder = Counter;

    fn describe() -> AgentDescription {
        AgentDescription::default()
    }

    fn open(_: OpenRequest) -> Result<Self> {
        Ok(Self)
    }

    fn launch(&self, request: LaunchRequest) -> Result<LaunchPlan> {
        compute(request.prompt.as_deref().unwrap_or_default());
        Ok(LaunchPlan::default())
    }

    fn deliver(&self, request: DeliverRequest) -> Result<Delivery> {
        compute(&request.content);
        Ok(Delivery::default())
    }

    fn decoder(&self, request: DecoderRequest) -> Result<Counter> {
        compute(request.state.as_str().unwrap_or_default());
        Ok(Counter(request.state.as_u64().unwrap_or_default()))
    }
}

impl Decoder for Counter {
    fn feed(&mut self, _: u32, input: &[u8]) -> Vec<AgentEvent> {
        compute(&String::from_utf8_lossy(input));
        self.0 += 1;
        vec![AgentEvent::Native {
            id: self.0.to_string(),
        }]
    }

    fn state(&self) -> Value {
        json!(self.0)
    }
}

#[tokio::test]
async fn an_agents_decoder_goes_on_from_its_state() {
    let agent = linked_agent::<ToyAgent>("toy", OpenRequest::default())
        .await
        .unwrap();
    let mut decoder = agent.decoder(&DecoderRequest::default()).await.unwrap();
    decoder.feed(0, b"a").await.unwrap();
    let state = decoder.state().await.unwrap();
    let mut next = agent
        .decoder(&DecoderRequest {
            state,
            ..DecoderRequest::default()
        })
        .await
        .unwrap();
    let events = next.feed(0, b"b").await.unwrap();
    assert_eq!(events, [AgentEvent::Native { id: "2".to_owned() }]);
}

#[tokio::test]
async fn an_agent_that_panics_or_hangs_holds_up_nobody_else() {
    let rules = ServiceRules {
        default_limit: Duration::from_millis(200),
        ..ServiceRules::default()
    };
    let agent = linked_agent_with::<ToyAgent>("toy", &OpenRequest::default(), rules).unwrap();
    let deliver = |content: &str| DeliverRequest {
        content: content.to_owned(),
        ..DeliverRequest::default()
    };
    let mut decoder = agent.decoder(&DecoderRequest::default()).await.unwrap();
    let error = decoder.feed(0, b"panic").await.unwrap_err();
    assert_eq!(error.code, Code::Panic);
    let error = decoder.feed(0, b"a").await.unwrap_err();
    assert_eq!(
        error.code,
        Code::PluginLost,
        "a decoder is lost with its call"
    );

    let error = agent.deliver(&deliver("panic")).await.unwrap_err();
    assert_eq!(error.code, Code::Panic);
    let error = agent.deliver(&deliver("hang")).await.unwrap_err();
    assert_eq!(error.code, Code::Deadline);
    agent.deliver(&deliver("work")).await.unwrap();
}
