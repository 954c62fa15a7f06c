//! A keeper without a terminal: what is typed comes out again, and a few lines make its program end.

use crate::keeper::protocol::{
    Hello, OFFSET_HEADER, PROTOCOL, ProgramState, StartProgram, Status as KeeperStatus,
};
use berth_plugin_api::Stream;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use std::sync::Arc;
use std::sync::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The state of one keeper process.
#[derive(Debug)]
pub(super) struct FakeKeeper {
    state: watch::Sender<State>,
    /// Commands that cannot be started.
    missing: Option<String>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    status: KeeperStatus,
    output: Vec<u8>,
    typed: String,
    programs: Vec<StartProgram>,
    /// The keeper's process has ended.
    over: bool,
}

impl FakeKeeper {
    pub(super) fn new(missing: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            state: watch::channel(State::default()).0,
            missing,
            tasks: Mutex::default(),
        })
    }

    /// A new connection.
    pub(super) fn connect(self: &Arc<Self>) -> Stream {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let keeper = self.clone();
        self.tasks.lock().unwrap().spawn(async move {
            let over = keeper.clone();
            tokio::select! {
                () = serve(keeper, far) => {}
                () = over.ended() => {}
            }
        });
        Stream::new(near)
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.borrow().over
    }

    /// The keeper's process is killed, connections and all.
    pub(super) fn kill(&self) {
        self.state.send_modify(|state| state.over = true);
    }

    pub(super) fn programs(&self) -> Vec<StartProgram> {
        self.state.borrow().programs.clone()
    }

    pub(super) fn typed(&self) -> String {
        self.state.borrow().typed.clone()
    }

    /// The program ends.
    pub(super) fn end(&self, code: i32, signal: Option<i32>) {
        self.state.send_modify(|state| {
            if let ProgramState::Running { .. } = state.status.program {
                state.status.program = ProgramState::Exited { code, signal };
            }
        });
    }

    pub(super) fn write(&self, text: &str) {
        self.state.send_modify(|state| {
            state.output.extend_from_slice(text.as_bytes());
            state.status.next_offset = state.status.first_offset + state.output.len() as u64;
        });
    }

    async fn ended(&self) {
        let mut state = self.state.subscribe();
        // The keeper itself holds the sender.
        state.wait_for(|state| state.over).await.ok();
    }
}

async fn serve(keeper: Arc<FakeKeeper>, io: tokio::io::DuplexStream) {
    let Ok(mut connection) = h2::server::handshake(io).await else {
        return;
    };
    let mut requests = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let keeper = keeper.clone();
        requests.spawn(async move { answer(&keeper, request, respond).await });
    }
}

async fn body(mut stream: RecvStream) -> Bytes {
    let mut bytes = Vec::new();
    while let Some(Ok(part)) = stream.data().await {
        stream.flow_control().release_capacity(part.len()).ok();
        bytes.extend_from_slice(&part);
    }
    bytes.into()
}

fn reply(respond: &mut SendResponse<Bytes>, value: &impl serde::Serialize) {
    let response = Response::builder().status(200).body(()).unwrap();
    if let Ok(mut stream) = respond.send_response(response, false) {
        let bytes = serde_json::to_vec(value).unwrap();
        stream.send_data(bytes.into(), true).ok();
    }
}

fn refuse(respond: &mut SendResponse<Bytes>, status: u16, code: &str) {
    let response = Response::builder().status(status).body(()).unwrap();
    if let Ok(mut stream) = respond.send_response(response, false) {
        let text = format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#);
        stream.send_data(text.into(), true).ok();
    }
}

async fn answer(
    keeper: &FakeKeeper,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let bytes = body(request.into_body()).await;
    let status = || keeper.state.borrow().status.clone();
    match path.as_str() {
        "/v1/hello" => reply(
            &mut respond,
            &Hello {
                protocol: PROTOCOL,
                boot_id: "fake".to_owned(),
                ..Hello::default()
            },
        ),
        "/v1/status" => reply(&mut respond, &status()),
        "/v1/program" => {
            let start: StartProgram = serde_json::from_slice(&bytes).unwrap();
            let mut conflict = false;
            keeper.state.send_modify(|state| {
                if state.status.run_id == start.run_id {
                    return;
                }
                if state.status.program != ProgramState::Waiting {
                    conflict = true;
                    return;
                }
                state.status.run_id.clone_from(&start.run_id);
                state.status.first_offset = start.first_offset;
                state.status.next_offset = start.first_offset;
                let command = start.program.argv[0].clone();
                state.status.program = if keeper.missing.as_ref() == Some(&command) {
                    ProgramState::Failed {
                        message: format!("command not found: {command}"),
                    }
                } else {
                    ProgramState::Running { pid: 7 }
                };
                state.programs.push(start.clone());
            });
            if conflict {
                refuse(&mut respond, 409, "CONFLICT");
            } else {
                reply(&mut respond, &status());
            }
        }
        "/v1/changes" => {
            let response = Response::builder().status(200).body(()).unwrap();
            let Ok(stream) = respond.send_response(response, false) else {
                return;
            };
            changes(keeper, stream).await;
        }
        "/v1/output" => {
            let from = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("from="))
                .and_then(|from| from.parse().ok())
                .unwrap_or(0);
            output(keeper, from, respond).await;
        }
        "/v1/input" => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            keeper
                .state
                .send_modify(|state| state.typed.push_str(&text));
            keeper.write(&text.replace('\r', "\r\n"));
            for line in text.split('\r') {
                if let Some(code) = line.strip_prefix("exit ") {
                    keeper.end(code.parse().unwrap(), None);
                }
            }
            reply(&mut respond, &serde_json::json!({}));
        }
        "/v1/stop" => {
            keeper.end(143, Some(15));
            reply(&mut respond, &status());
        }
        "/v1/release" => {
            reply(&mut respond, &serde_json::json!({}));
            // The answer is on its way before the connection ends.
            tokio::task::yield_now().await;
            keeper.kill();
        }
        "/v1/resize" | "/v1/signal" => reply(&mut respond, &serde_json::json!({})),
        _ => refuse(&mut respond, 404, "NOT_FOUND"),
    }
}

async fn changes(keeper: &FakeKeeper, mut stream: SendStream<Bytes>) {
    let mut state = keeper.state.subscribe();
    let mut told = None;
    loop {
        let status = state.borrow_and_update().status.clone();
        let news = (status.run_id.clone(), status.program.clone());
        if told.as_ref() != Some(&news) {
            let mut line = serde_json::to_vec(&status).unwrap();
            line.push(b'\n');
            if stream.send_data(line.into(), false).is_err() {
                return;
            }
            told = Some(news);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

async fn output(keeper: &FakeKeeper, from: u64, mut respond: SendResponse<Bytes>) {
    let mut state = keeper.state.subscribe();
    let started = state
        .wait_for(|state| state.status.program != ProgramState::Waiting)
        .await
        .map(|state| state.status.first_offset);
    let Ok(first) = started else { return };
    let mut sent = from.max(first);
    let response = Response::builder()
        .status(200)
        .header(OFFSET_HEADER, sent.to_string())
        .body(())
        .unwrap();
    let Ok(mut stream) = respond.send_response(response, false) else {
        return;
    };
    loop {
        let now = state.borrow_and_update().clone();
        let start = usize::try_from(sent - now.status.first_offset).unwrap();
        let part = Bytes::copy_from_slice(&now.output[start..]);
        sent += part.len() as u64;
        let running = matches!(now.status.program, ProgramState::Running { .. });
        if stream.send_data(part, !running).is_err() || !running {
            return;
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
