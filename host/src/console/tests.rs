//! A console with a stand-in for the keeper.

use super::*;
use crate::console::vt::{History, Vt};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Program {
    first_offset: u64,
    output: Vec<u8>,
    ended: bool,
    lost: bool,
    typed: Vec<u8>,
    sizes: Vec<Size>,
    size: Size,
    /// How far its output was read.
    read: u64,
}

/// A program on a terminal, played by the test.
#[derive(Debug, Clone)]
struct Fake {
    program: Arc<Mutex<Program>>,
    changed: watch::Sender<u64>,
}

impl Fake {
    fn new() -> Self {
        Self {
            program: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn program(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap()
    }

    fn change<T>(&self, act: impl FnOnce(&mut Program) -> T) -> T {
        let done = act(&mut self.program());
        self.changed.send_modify(|count| *count += 1);
        done
    }

    fn print(&self, bytes: impl AsRef<[u8]>) {
        self.change(|program| program.output.extend_from_slice(bytes.as_ref()));
    }

    async fn wait(&self, what: &str, met: impl Fn(&Program) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !met(&self.program()) {
                changed.changed().await.unwrap();
            }
        };
        let came = timeout(LIMIT, waiting).await.is_ok();
        assert!(came, "{what} did not come: {:?}", self.program());
    }
}

#[async_trait]
impl Source for Fake {
    async fn output(&self, from: u64, _: Duration) -> Result<SourceOutput, SourceError> {
        let first_offset = from.max(self.program().first_offset);
        let state = (self.clone(), first_offset, self.changed.subscribe());
        let bytes = futures_util::stream::unfold(state, |(fake, at, mut changed)| async move {
            loop {
                changed.borrow_and_update();
                let next = {
                    let program = fake.program();
                    let begin = usize::try_from(at - program.first_offset).unwrap();
                    if program.lost {
                        Some(Err(SourceError::Lost("gone".to_owned())))
                    } else if begin < program.output.len() {
                        let end = program.output.len().min(begin + 16 * 1024);
                        Some(Ok(Bytes::copy_from_slice(&program.output[begin..end])))
                    } else if program.ended {
                        return None;
                    } else {
                        None
                    }
                };
                match next {
                    Some(Ok(bytes)) => {
                        let at = at + bytes.len() as u64;
                        fake.change(|program| program.read = at);
                        return Some((Ok(bytes), (fake, at, changed)));
                    }
                    Some(Err(error)) => return Some((Err(error), (fake, at, changed))),
                    None => changed.changed().await.unwrap(),
                }
            }
        });
        Ok(SourceOutput {
            first_offset,
            bytes: Box::pin(bytes),
        })
    }

    async fn input(&self, bytes: Bytes) -> Result<(), SourceError> {
        self.change(|program| program.typed.extend_from_slice(&bytes));
        Ok(())
    }

    async fn resize(&self, size: Size) -> Result<(), SourceError> {
        self.change(|program| {
            program.sizes.push(size);
            program.size = size;
        });
        Ok(())
    }

    async fn size(&self) -> Result<Size, SourceError> {
        Ok(self.program().size)
    }
}

struct Stage {
    folder: tempfile::TempDir,
    console: Console,
    fake: Fake,
    running: JoinHandle<Result<RunEnd, ConsoleError>>,
    cancel: CancellationToken,
}

#[expect(clippy::disallowed_methods, reason = "the test keeps the handle")]
fn start(
    console: &Console,
    fake: &Fake,
    cancel: &CancellationToken,
) -> JoinHandle<Result<RunEnd, ConsoleError>> {
    let (console, fake, cancel) = (console.clone(), fake.clone(), cancel.clone());
    tokio::spawn(async move { console.run(Arc::new(fake), cancel).await })
}

impl Stage {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let console = Console::open(ConsoleSettings::new(folder.path()))
            .await
            .unwrap();
        let fake = Fake::new();
        let cancel = CancellationToken::new();
        let running = start(&console, &fake, &cancel);
        Self {
            folder,
            console,
            fake,
            running,
            cancel,
        }
    }

    /// Waits until the run has ended by itself.
    async fn ended(&mut self) -> RunEnd {
        (&mut self.running).await.unwrap().unwrap()
    }

    async fn join(&self, options: JoinOptions) -> Client {
        Client::new(self.console.join(options).await.unwrap())
    }

    /// Stops reading as a server that goes does.
    async fn leave(self) -> (tempfile::TempDir, Fake) {
        self.cancel.cancel();
        assert_eq!(self.running.await.unwrap().unwrap(), RunEnd::Cancelled);
        (self.folder, self.fake)
    }
}

/// A client with a terminal that shows what it gets.
struct Client {
    attachment: Attachment,
    vt: Vt,
    bytes: Vec<u8>,
    notices: Vec<Notice>,
}

impl Client {
    fn new(attachment: Attachment) -> Self {
        Self {
            attachment,
            vt: Vt::new(Size::default(), History::new(100_000, 8 << 20)),
            bytes: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Takes one thing, as a client that reads and answers pings.
    async fn step(&mut self) -> bool {
        match timeout(LIMIT, self.attachment.output.next())
            .await
            .expect("something to send")
        {
            None => return false,
            Some(Outgoing::Bytes(bytes)) => {
                assert!(bytes.len() <= 64 * 1024 && !bytes.is_empty());
                self.vt.read(&bytes, false);
                self.bytes.extend_from_slice(&bytes);
            }
            Some(Outgoing::Ping(payload)) => self.attachment.input.acknowledge(&payload),
            Some(Outgoing::Notice(notice)) => self.notices.push(notice),
        }
        true
    }

    fn text(&mut self) -> String {
        self.vt.text()
    }

    async fn until(&mut self, text: &str) {
        while !self.text().contains(text) {
            assert!(self.step().await, "closed");
        }
    }

    async fn until_notice(&mut self, notice: &Notice) {
        while !self.notices.contains(notice) {
            assert!(self.step().await, "closed");
        }
    }

    async fn types(&self, text: &'static str) {
        self.attachment
            .input
            .type_bytes(Bytes::from_static(text.as_bytes()))
            .await
            .unwrap();
    }
}

fn control() -> JoinOptions {
    JoinOptions {
        control: true,
        ..JoinOptions::default()
    }
}

fn sized(cols: u16, rows: u16) -> JoinOptions {
    JoinOptions {
        size: Some(Size { cols, rows }),
        ..control()
    }
}

#[tokio::test]
async fn a_client_gets_the_screen_then_what_comes() {
    let stage = Stage::set().await;
    stage.fake.print("one\r\ntwo");
    let mut first = stage.join(control()).await;
    first.until("two").await;
    first.until_notice(&Notice::ReplayEnd).await;
    stage.fake.print("\r\nthree");
    let mut second = stage.join(control()).await;
    first.until("three").await;
    second.until("three").await;
    assert_eq!(first.text(), "one\ntwo\nthree\n");
    assert_eq!(second.text(), first.text());
}

#[tokio::test]
async fn nothing_is_missed_or_repeated_while_joining_in_a_flood() {
    let stage = Stage::set().await;
    let fake = stage.fake.clone();
    let mut clients = vec![stage.join(control()).await];
    let mut line = 0;
    for _ in 0..20 {
        for _ in 0..2000 {
            line += 1;
            fake.print(format!("line {line}\r\n"));
        }
        let mut joined = stage
            .join(JoinOptions {
                scrollback: 100_000,
                ..control()
            })
            .await;
        joined.step().await;
        clients.push(joined);
        clients[0].step().await;
    }
    fake.print("end");
    let expected: Vec<String> = (1..=line)
        .map(|line| format!("line {line}"))
        .chain(["end".to_owned()])
        .collect();
    for client in &mut clients {
        client.until("end").await;
        assert!(client.text().lines().eq(expected.iter()));
    }
}

#[tokio::test]
async fn characters_arrive_whole() {
    let stage = Stage::set().await;
    let mut client = stage.join(JoinOptions::default()).await;
    client.step().await;
    for byte in "aé漢😀".as_bytes() {
        stage.fake.print([*byte]);
        tokio::task::yield_now().await;
    }
    while !client.bytes.ends_with("😀".as_bytes()) {
        match client.attachment.output.next().await.unwrap() {
            Outgoing::Bytes(bytes) => {
                assert!(std::str::from_utf8(&bytes).is_ok(), "{bytes:?}");
                client.bytes.extend_from_slice(&bytes);
            }
            Outgoing::Ping(payload) => client.attachment.input.acknowledge(&payload),
            Outgoing::Notice(_) => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_character_is_awaited_for_a_second() {
    let stage = Stage::set().await;
    let mut client = stage.join(JoinOptions::default()).await;
    stage.fake.print(b"ok\xe2\x82");
    client.until("ok").await;
    let before = tokio::time::Instant::now();
    while !client.bytes.ends_with(b"\xe2\x82") {
        client.step().await;
    }
    assert!(before.elapsed() >= Duration::from_millis(900));
    stage.fake.print(b"\xff\xfe!");
    while !client.bytes.ends_with(b"\xff\xfe!") {
        client.step().await;
    }
}

#[tokio::test]
async fn what_is_typed_reaches_the_program_in_order() {
    let stage = Stage::set().await;
    let first = stage.join(JoinOptions::default()).await;
    let second = stage.join(JoinOptions::default()).await;
    let watcher = stage
        .join(JoinOptions {
            mode: Mode::Read,
            ..JoinOptions::default()
        })
        .await;
    watcher.types("never").await;
    first.types("one ").await;
    second.types("two ").await;
    first.types("three").await;
    stage
        .fake
        .wait("input", |program| program.typed == b"one two three")
        .await;
}

#[tokio::test]
async fn the_size_is_that_of_who_typed_or_resized_last() {
    let stage = Stage::set().await;
    let size = |cols, rows| Size { cols, rows };
    let mut first = stage.join(sized(100, 30)).await;
    stage
        .fake
        .wait("the first size", |program| program.sizes == [size(100, 30)])
        .await;
    let second = stage.join(sized(90, 20)).await;
    first.types("a").await;
    stage
        .fake
        .wait("typed", |program| program.typed == b"a")
        .await;
    assert_eq!(stage.fake.program().sizes, [size(100, 30)]);
    second.types("b").await;
    stage
        .fake
        .wait("the second size", |program| program.typed == b"ab")
        .await;
    assert_eq!(stage.fake.program().sizes, [size(100, 30), size(90, 20)]);
    first.until_notice(&Notice::Resize(size(90, 20))).await;
    second.attachment.input.resize(size(91, 21));
    stage
        .fake
        .wait("resized", |program| program.size == size(91, 21))
        .await;
    // Equal sizes are not sent on.
    second.attachment.input.resize(size(91, 21));
    drop(second);
    stage
        .fake
        .wait("back", |program| program.size == size(100, 30))
        .await;
    assert_eq!(stage.fake.program().sizes.len(), 4);
    assert!(!first.notices.contains(&Notice::Resize(size(100, 30))));
}

#[tokio::test]
async fn queries_get_one_answer() {
    let stage = Stage::set().await;
    stage.fake.print("\x1b[6n");
    stage
        .fake
        .wait("the terminal's own answer", |program| {
            program.typed == b"\x1b[1;1R"
        })
        .await;
    let mut first = stage.join(sized(80, 24)).await;
    let second = stage.join(sized(80, 24)).await;
    let watcher = stage
        .join(JoinOptions {
            mode: Mode::Read,
            ..JoinOptions::default()
        })
        .await;
    stage.fake.print("\x1b[c.");
    first.until(".").await;
    assert!(
        first.bytes.ends_with(b"\x1b[c."),
        "a query is for the client's terminal to answer"
    );
    for client in [&watcher, &second, &first] {
        client.types("\x1b[?1;2c").await;
    }
    first.types("!").await;
    stage
        .fake
        .wait("keys", |program| program.typed.ends_with(b"!"))
        .await;
    assert_eq!(stage.fake.program().typed, b"\x1b[1;1R\x1b[?1;2c!");
}

#[tokio::test]
async fn a_stalled_client_holds_up_nobody_and_is_painted_anew() {
    let stage = Stage::set().await;
    let mut stalled = stage.join(control()).await;
    stalled.until_notice(&Notice::ReplayEnd).await;
    let mut healthy = stage.join(control()).await;
    let mut flood = String::new();
    for line in 0..400_000 {
        writeln!(flood, "flood {line}\r").unwrap();
    }
    flood.push_str("end of flood");
    let before = std::time::Instant::now();
    stage.fake.print(&flood);
    while !healthy.bytes.ends_with(b"end of flood") {
        match timeout(LIMIT, healthy.attachment.output.next())
            .await
            .expect("the flood goes on")
            .unwrap()
        {
            Outgoing::Bytes(bytes) => healthy.bytes.extend_from_slice(&bytes),
            Outgoing::Ping(payload) => healthy.attachment.input.acknowledge(&payload),
            Outgoing::Notice(_) => {}
        }
    }
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    stalled.until("end of flood").await;
    let text = stalled.text();
    assert!(text.ends_with("flood 399999\nend of flood\n"));
    assert!(text.lines().count() > 4900);
    assert!(stalled.bytes.len() < 3_000_000, "{}", stalled.bytes.len());
}

#[tokio::test]
async fn no_more_than_the_window_is_unanswered() {
    let stage = Stage::set().await;
    let mut client = stage.join(control()).await;
    client.until_notice(&Notice::ReplayEnd).await;
    stage.fake.print(vec![b'x'; 2_000_000]);
    let mut sent = 0;
    while let Ok(Some(outgoing)) =
        timeout(Duration::from_millis(300), client.attachment.output.next()).await
    {
        if let Outgoing::Bytes(bytes) = outgoing {
            sent += bytes.len();
        }
    }
    assert!((100_000..=200_000).contains(&sent), "{sent}");
}

#[tokio::test]
async fn the_end_is_told_to_those_there_and_those_to_come() {
    let mut stage = Stage::set().await;
    let mut with_control = stage.join(control()).await;
    let mut plain = stage.join(JoinOptions::default()).await;
    stage.fake.print("bye");
    stage.fake.change(|program| program.ended = true);
    assert_eq!(stage.ended().await, RunEnd::ProgramEnded);
    stage.console.ended(Some(3), None).await;
    let exit = Notice::Exit { code: Some(3) };
    with_control.until_notice(&exit).await;
    assert_eq!(with_control.text(), "bye\n");
    plain.until("[the program ended with exit code 3]").await;
    let mut late = stage.join(control()).await;
    late.until_notice(&exit).await;
    assert_eq!(late.notices, [Notice::ReplayEnd, exit.clone()]);
    let mut late_plain = stage.join(JoinOptions::default()).await;
    late_plain.until("exit code 3").await;
    assert_eq!(late_plain.text(), plain.text());
    plain.types("into nothing").await;
    assert_eq!(stage.fake.program().typed, b"");

    stage.console.save().await.unwrap();
    let again = Console::open(ConsoleSettings::new(stage.folder.path()))
        .await
        .unwrap();
    assert_eq!(again.next_offset(), 3);
    let mut much_later = Client::new(again.join(control()).await.unwrap());
    much_later.until_notice(&exit).await;
    assert_eq!(much_later.text(), "bye\n");
    assert_eq!(again.history_text().await.unwrap(), "bye\n");
}

#[tokio::test]
async fn another_run_goes_on_below() {
    let mut stage = Stage::set().await;
    let mut plain = stage.join(JoinOptions::default()).await;
    let mut with_control = stage.join(control()).await;
    stage.fake.print("first\x1b[?2004h\x1b[?25l");
    stage.fake.change(|program| program.ended = true);
    stage.ended().await;
    stage
        .console
        .ended(Some(0), Some("stopped by request".to_owned()))
        .await;
    plain.until("[stopped by request]").await;
    stage.console.restarted().await;
    let next = Fake::new();
    next.change(|program| program.first_offset = stage.console.next_offset());
    let cancel = CancellationToken::new();
    let running = start(&stage.console, &next, &cancel);
    next.print("second");
    plain.until("second").await;
    with_control.until("second").await;
    assert_eq!(plain.text(), "first\nsecond\n");
    assert_eq!(with_control.text(), "first\nsecond\n");
    plain.types("x").await;
    next.wait("input", |program| program.typed == b"x").await;
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_new_server_goes_on_where_the_old_one_stopped() {
    let stage = Stage::set().await;
    stage
        .fake
        .print(b"\x1b[31mone\r\ntwo\x1b[?1049hin alt \xe2\x82");
    stage
        .fake
        .wait("reading", |program| {
            program.read == program.output.len() as u64
        })
        .await;
    stage.console.save().await.unwrap();
    let (folder, fake) = stage.leave().await;
    fake.print(b"\xac and on");
    let console = Console::open(ConsoleSettings::new(folder.path()))
        .await
        .unwrap();
    let cancel = CancellationToken::new();
    let running = start(&console, &fake, &cancel);
    let mut client = Client::new(console.join(control()).await.unwrap());
    client.until("€ and on").await;
    assert_eq!(client.text(), "one\ntwo\n\n   in alt € and on\n");
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn after_a_gap_it_begins_at_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let console = Console::open(ConsoleSettings::new(folder.path()))
        .await
        .unwrap();
    let fake = Fake::new();
    fake.change(|program| program.first_offset = 1000);
    fake.print("m rest of a line\r\nwhole line\r\n$ ");
    let cancel = CancellationToken::new();
    let running = start(&console, &fake, &cancel);
    let mut client = Client::new(console.join(control()).await.unwrap());
    client.until("$").await;
    assert_eq!(client.text(), "whole line\n$\n");
    assert_eq!(console.next_offset(), 1000 + 32);
    fake.change(|program| program.lost = true);
    let error = running.await.unwrap().unwrap_err();
    assert!(
        matches!(error, ConsoleError::Source(SourceError::Lost(_))),
        "{error:?}"
    );
    fake.change(|program| program.lost = false);
    let running = start(&console, &fake, &cancel);
    fake.print("on");
    client.until("$ on").await;
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_ends_every_attachment() {
    let stage = Stage::set().await;
    let mut client = stage.join(control()).await;
    client.until_notice(&Notice::ReplayEnd).await;
    stage.console.close();
    while client.step().await {}
    assert!(stage.console.join(control()).await.is_err());
    assert_eq!(stage.running.await.unwrap().unwrap(), RunEnd::Cancelled);
}

#[tokio::test]
async fn a_damaged_file_begins_empty() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "nonsense").unwrap();
    let console = Console::open(ConsoleSettings::new(folder.path()))
        .await
        .unwrap();
    assert_eq!(
        (console.next_offset(), console.history_text().await.unwrap()),
        (0, String::new())
    );
    assert!(folder.path().join("state.damaged").exists());
}
