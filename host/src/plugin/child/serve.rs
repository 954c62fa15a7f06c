//! The plugin's process: `berth plugin-host`, with the server on its standard input.

use super::wire::{
    CONNECTION_WINDOW, DecoderId, HostLine, Pipe, REQUEST_ID, STREAM_WINDOW, TIME_LIMIT, read_all,
    read_framed, send_all,
};
use crate::driver::{Isolation, PluginKind};
use crate::plugin::inspect::judge;
use crate::plugin::load::load;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RErr, ROk, RResult, RSlice, RStr};
use berth_plugin_api::raw::{
    CallCx, Doc, Fault, ModuleRef, RawAgentObject, RawBackendObject, RawDecoderObject, RawHost,
    RawHost_TO, RawHostObject,
};
use berth_plugin_api::{Code, Error, Result, Stream};
use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Lines for the host that wait to be sent; what is more is left out.
const HOST_LINES: usize = 1024;
const COPY_BUFFER: usize = 64 * 1024;

/// Serves the plugin in the file `path` to the server at the other end of the standard input, until that is gone.
///
/// # Errors
/// The standard input is no socket, or there is no runtime.
pub fn serve(path: PathBuf, sha256: String, copies: PathBuf) -> io::Result<()> {
    let socket = take_standard_input()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let plugin = Arc::new(Plugin::new(path, sha256, copies));
    let served = runtime.block_on(plugin.serve(socket));
    // What hangs in the plugin must not keep the process.
    runtime.shutdown_background();
    served
}

/// Takes the socket away from the standard input, so that no process that the plugin starts inherits it.
fn take_standard_input() -> io::Result<std::os::unix::net::UnixStream> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let null = OpenOptions::new().read(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct Plugin {
    path: PathBuf,
    sha256: String,
    copies: PathBuf,
    module: tokio::sync::OnceCell<(PluginKind, ModuleRef)>,
    backend: OnceLock<RawBackendObject>,
    agent: OnceLock<RawAgentObject>,
    decoders: Mutex<HashMap<u64, Arc<Mutex<RawDecoderObject>>>>,
    next_decoder: AtomicU64,
    tell: mpsc::Sender<HostLine>,
    told: Mutex<Option<mpsc::Receiver<HostLine>>>,
}

impl Plugin {
    fn new(path: PathBuf, sha256: String, copies: PathBuf) -> Self {
        let (tell, told) = mpsc::channel(HOST_LINES);
        Self {
            path,
            sha256,
            copies,
            module: tokio::sync::OnceCell::new(),
            backend: OnceLock::new(),
            agent: OnceLock::new(),
            decoders: Mutex::default(),
            next_decoder: AtomicU64::new(1),
            tell,
            told: Mutex::new(Some(told)),
        }
    }

    async fn serve(self: Arc<Self>, socket: std::os::unix::net::UnixStream) -> io::Result<()> {
        let socket = UnixStream::from_std(socket)?;
        let mut connection = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake::<_, Bytes>(socket)
            .await
            .map_err(io::Error::other)?;
        let tasks = TaskTracker::new();
        while let Some(request) = connection.accept().await {
            // A connection that breaks is the server's end, and so this process's.
            let Ok((request, respond)) = request else {
                break;
            };
            tasks.spawn(Arc::clone(&self).answer(request, respond));
        }
        Ok(())
    }

    async fn answer(self: Arc<Self>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let mut exchange = Exchange { body, respond };
        let outcome = match path {
            "/host" => return self.tell_host(exchange).await,
            "/backend/connect" | "/backend/watch" => {
                return self.stream(path, &head.headers, exchange).await;
            }
            _ => {
                let work = self.document(path, &head, &mut exchange.body);
                tokio::select! {
                    biased;
                    // The call was given up: dropping the work aborts it.
                    _ = poll_fn(|cx| exchange.respond.poll_reset(cx)) => return,
                    outcome = work => outcome,
                }
            }
        };
        exchange.end_with(outcome).await;
    }

    /// Answers an operation that takes a document and gives one.
    async fn document(
        self: &Arc<Self>,
        path: &str,
        head: &http::request::Parts,
        body: &mut RecvStream,
    ) -> Result<Doc> {
        let document: Doc = read_all(body).await?.to_vec().into();
        let query = head.uri.query().unwrap_or_default();
        let decoder =
            || -> Result<DecoderId> { serde_urlencoded::from_str(query).map_err(Error::internal) };
        match path {
            "/load" => self.module().await.map(|_| null()),
            "/describe" => {
                let (_, module) = self.module().await?;
                self.on_thread(move |_| module.describe()()).await
            }
            "/open" => self.open(document).await.map(|()| null()),
            "/agent/launch" => self.on_agent(move |agent| agent.launch(document)).await,
            "/agent/deliver" => self.on_agent(move |agent| agent.deliver(document)).await,
            "/agent/decoder" => {
                let made = self.on_agent(move |agent| agent.decoder(document)).await?;
                let id = DecoderId {
                    decoder: self.next_decoder.fetch_add(1, Ordering::Relaxed),
                    source: 0,
                };
                lock(&self.decoders).insert(id.decoder, Arc::new(Mutex::new(made)));
                Ok(serde_json::to_vec(&id).map_err(Error::internal)?.into())
            }
            "/agent/feed" => {
                let id = decoder()?;
                let feed = move |decoder: &mut RawDecoderObject| {
                    decoder.feed(id.source, RSlice::from_slice(&document))
                };
                self.on_decoder(id.decoder, feed).await
            }
            "/agent/state" => {
                self.on_decoder(decoder()?.decoder, |decoder| decoder.state())
                    .await
            }
            "/agent/forget" => {
                let gone = lock(&self.decoders).remove(&decoder()?.decoder);
                self.on_thread(move |_| {
                    drop(gone);
                    ROk(null())
                })
                .await
            }
            _ => self.on_backend(path, cx_of(&head.headers), document).await,
        }
    }

    async fn on_backend(&self, path: &str, cx: CallCx, document: Doc) -> Result<Doc> {
        let backend = self.backend.get().ok_or_else(not_open)?;
        let answer = match path {
            "/backend/probe" => backend.probe(cx, document),
            "/backend/create" => backend.create(cx, document),
            "/backend/start" => backend.start(cx, document),
            "/backend/stop" => backend.stop(cx, document),
            "/backend/delete" => backend.delete(cx, document),
            "/backend/inspect" => backend.inspect(cx, document),
            "/backend/list" => backend.list(cx, document),
            "/backend/refresh" => backend.refresh(cx, document),
            "/backend/shutdown" => backend.shutdown(cx, document),
            other => return Err(Error::unsupported(other)),
        };
        Ok(answer.await.into_result()?)
    }

    async fn on_agent<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&RawAgentObject) -> RResult<T, Fault> + Send + 'static,
    ) -> Result<T> {
        self.on_thread(move |plugin| match plugin.agent.get() {
            Some(agent) => work(agent),
            None => RErr(not_open().into()),
        })
        .await
    }

    async fn on_decoder(
        self: &Arc<Self>,
        id: u64,
        work: impl FnOnce(&mut RawDecoderObject) -> RResult<Doc, Fault> + Send + 'static,
    ) -> Result<Doc> {
        let decoder = lock(&self.decoders).get(&id).cloned();
        let decoder = decoder.ok_or_else(|| Error::not_found("there is no such decoder"))?;
        self.on_thread(move |_| work(&mut lock(&decoder))).await
    }

    /// Runs code of the plugin where it may take its time.
    async fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> RResult<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let plugin = Arc::clone(self);
        let outcome = tokio::task::spawn_blocking(move || work(&plugin)).await;
        let outcome = outcome.map_err(|error| Error::new(Code::Panic, error.to_string()))?;
        Ok(outcome.into_result()?)
    }

    /// Loads the library, once.
    async fn module(self: &Arc<Self>) -> Result<(PluginKind, ModuleRef)> {
        let loading = || async {
            let plugin = Arc::clone(self);
            let loaded = tokio::task::spawn_blocking(move || plugin.load()).await;
            loaded.map_err(Error::internal)?
        };
        self.module.get_or_try_init(loading).await.copied()
    }

    /// The bytes have the hash that the server inspected, and trusted by their file's owner and folder.
    fn load(&self) -> Result<(PluginKind, ModuleRef)> {
        let bytes = std::fs::read(&self.path)?;
        let plugin = judge(self.path.clone(), bytes, Isolation::Process)
            .map_err(|misfit| Error::internal(misfit.refusal))?;
        if plugin.sha256 != self.sha256 {
            return Err(Error::internal(
                "the library is another one than the server inspected",
            ));
        }
        let module = load(&plugin, &self.copies).map_err(Error::internal)?;
        Ok((plugin.kind, module))
    }

    async fn open(self: &Arc<Self>, request: Doc) -> Result<()> {
        let (kind, module) = self.module().await?;
        let host = RawHost_TO::from_value(Relay(self.tell.clone()), TD_Opaque);
        match kind {
            PluginKind::Backend => {
                let backend = module.open_backend()(host, request).await.into_result()?;
                drop(self.backend.set(backend));
            }
            PluginKind::Agent => {
                let open = move |host: RawHostObject| module.open_agent()(host, request);
                let agent = self.on_thread(move |_| open(host)).await?;
                drop(self.agent.set(agent));
            }
        }
        Ok(())
    }

    /// Gives the plugin's stream as the body of the answer, and the rest of the request's body to it.
    async fn stream(self: Arc<Self>, path: &str, headers: &HeaderMap, mut exchange: Exchange) {
        let open = async {
            let (document, rest) = read_framed(&mut exchange.body).await?;
            let backend = self.backend.get().ok_or_else(not_open)?;
            let document: Doc = document.to_vec().into();
            let cx = cx_of(headers);
            let answer = match path {
                "/backend/connect" => backend.connect(cx, document),
                _ => backend.watch(cx, document),
            };
            let raw = answer.await.into_result()?;
            Ok::<_, Error>((crate::driver::stream_of(raw), rest))
        };
        let opened = tokio::select! {
            biased;
            _ = poll_fn(|cx| exchange.respond.poll_reset(cx)) => return,
            opened = open => opened,
        };
        let (mut stream, rest) = match opened {
            Ok(opened) => opened,
            Err(error) => return exchange.end_with(Err(error)).await,
        };
        let Some(send) = exchange.begin(StatusCode::OK) else {
            return;
        };
        let mut pipe = Pipe::new(send, exchange.body, rest);
        // What breaks one side ends both, and that is all there is to tell.
        pump(&mut stream, &mut pipe).await.ok();
    }

    /// Sends what the plugin tells the host by itself.
    async fn tell_host(self: Arc<Self>, mut exchange: Exchange) {
        let Some(mut told) = lock(&self.told).take() else {
            return;
        };
        let Some(mut send) = exchange.begin(StatusCode::OK) else {
            return;
        };
        while let Some(line) = told.recv().await {
            let Ok(mut line) = serde_json::to_vec(&line) else {
                continue;
            };
            line.push(b'\n');
            if send_all(&mut send, line.into(), false).await.is_err() {
                return;
            }
        }
    }
}

async fn pump(stream: &mut Stream, pipe: &mut Pipe) -> io::Result<()> {
    tokio::io::copy_bidirectional_with_sizes(stream, pipe, COPY_BUFFER, COPY_BUFFER)
        .await
        .map(drop)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn null() -> Doc {
    Doc::from(b"null".to_vec())
}

fn not_open() -> Error {
    Error::internal("the plugin is not open")
}

fn cx_of(headers: &HeaderMap) -> CallCx {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let request_id = text(REQUEST_ID)
        .and_then(|id| id.parse::<Uuid>().ok())
        .unwrap_or_default();
    let limit = text(TIME_LIMIT).and_then(|limit| limit.parse().ok());
    CallCx::new(request_id.into_bytes(), limit.unwrap_or_default())
}

/// A request that waits for its answer.
struct Exchange {
    body: RecvStream,
    respond: SendResponse<Bytes>,
}

impl Exchange {
    /// `None` when the other end no longer wants it.
    fn begin(&mut self, status: StatusCode) -> Option<SendStream<Bytes>> {
        let mut head = Response::new(());
        *head.status_mut() = status;
        self.respond.send_response(head, false).ok()
    }

    async fn end_with(mut self, outcome: Result<Doc>) {
        let (status, document) = match outcome {
            Ok(document) => (StatusCode::OK, document.into_vec()),
            Err(error) => {
                let document = serde_json::to_vec(&error).unwrap_or_default();
                (StatusCode::INTERNAL_SERVER_ERROR, document)
            }
        };
        if let Some(mut send) = self.begin(status) {
            // Where the other end is gone, there is nobody to tell.
            send_all(&mut send, document.into(), true).await.ok();
        }
    }
}

/// The host, as the plugin sees it from its process.
struct Relay(mpsc::Sender<HostLine>);

impl RawHost for Relay {
    fn enabled(&self, _: u32) -> bool {
        true
    }

    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>, fields: RStr<'_>) {
        let line = HostLine::Log {
            level,
            target: target.to_string(),
            message: message.to_string(),
            fields: fields.to_string(),
        };
        self.0.try_send(line).ok();
    }

    fn notify(&self, request_id: &[u8; 16], progress: Doc) {
        if let Ok(progress) = serde_json::from_slice(&progress) {
            let request_id = Uuid::from_bytes(*request_id);
            let line = HostLine::Progress {
                request_id,
                progress,
            };
            self.0.try_send(line).ok();
        }
    }

    fn query(&self, _: RStr<'_>) -> Doc {
        Doc::new()
    }
}
