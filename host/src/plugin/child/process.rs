//! The server's side of a plugin's process: starting it, starting it anew, and asking it.

use super::wire::{
    CONNECTION_WINDOW, HostLine, Lines, Pipe, REQUEST_ID, STREAM_WINDOW, TIME_LIMIT, framed,
    read_all, send_all,
};
use crate::plugin::load::Held;
use berth_plugin_api::raw::{CallCx, RawHostObject};
use berth_plugin_api::{Code, Error, Result};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Request;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

/// How long a process that closed its connection has to end, so that it can be said how.
const END_LIMIT: Duration = Duration::from_secs(1);

/// How a plugin's process is started.
pub(in crate::plugin) struct Launch {
    /// The program `berth`.
    pub(in crate::plugin) program: PathBuf,
    /// The library, as it was when it was inspected.
    pub(in crate::plugin) library: Held,
    /// Its hash.
    pub(in crate::plugin) sha256: String,
    /// Where a private copy may be put.
    pub(in crate::plugin) copies: PathBuf,
}

/// A plugin's process, whichever it is just now.
pub(in crate::plugin) struct Process {
    launch: Launch,
    host: Arc<RawHostObject>,
    live: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    live: Option<Live>,
    /// What each new process is opened with, once one was opened.
    open: Option<Bytes>,
}

struct Live {
    connection: Connection,
    _tasks: JoinSet<()>,
}

/// A connection to one process.
#[derive(Clone)]
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
}

impl Process {
    pub(in crate::plugin) fn new(launch: Launch, host: RawHostObject) -> Self {
        Self {
            launch,
            host: Arc::new(host),
            live: Mutex::default(),
        }
    }

    /// Opens the plugin, in this process and in each that follows.
    pub(in crate::plugin) async fn open(&self, request: Bytes) -> Result<()> {
        let connection = self.connection().await?;
        connection.ask("/open", None, request.clone()).await?;
        self.live.lock().await.open = Some(request);
        Ok(())
    }

    /// Has the library loaded.
    pub(in crate::plugin) async fn load(&self) -> Result<()> {
        let connection = self.connection().await?;
        connection.ask("/load", None, Bytes::new()).await.map(drop)
    }

    /// The description of the plugin.
    pub(in crate::plugin) async fn describe(&self) -> Result<Bytes> {
        let connection = self.connection().await?;
        connection.ask("/describe", None, Bytes::new()).await
    }

    /// Ends the process; the next call starts another.
    pub(in crate::plugin) fn kill(&self) {
        // Where it is locked, another one is being started.
        if let Ok(mut slot) = self.live.try_lock() {
            slot.live = None;
        }
    }

    /// A connection to a process that runs; where there is none, it is started and opened.
    pub(super) async fn connection(&self) -> Result<Connection> {
        let mut slot = self.live.lock().await;
        if let Some(live) = &slot.live
            && live.connection.ended.borrow().is_none()
        {
            return Ok(live.connection.clone());
        }
        slot.live = None;
        let live = self.start().await?;
        let connection = live.connection.clone();
        if let Some(open) = &slot.open {
            connection.ask("/open", None, open.clone()).await?;
        }
        slot.live = Some(live);
        Ok(connection)
    }

    async fn start(&self) -> Result<Live> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(
                Code::PluginLost,
                format!("the plugin's process cannot be started: {error}"),
            )
        };
        let (ours, theirs) =
            std::os::unix::net::UnixStream::pair().map_err(|error| failed(&error))?;
        ours.set_nonblocking(true).map_err(|error| failed(&error))?;
        let ours = UnixStream::from_std(ours).map_err(|error| failed(&error))?;
        let child = Command::new(&self.launch.program)
            .arg0("berth")
            .args(self.arguments())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A group of its own, so that Ctrl-C at the server's terminal reaches the server alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let (requests, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake::<_, Bytes>(ours)
            .await
            .map_err(|error| failed(&error))?;
        let (tell, ended) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let outcome = connection.await;
            tell.send_replace(Some(how_it_ended(child, outcome).await));
        });
        let connection = Connection { requests, ended };
        tasks.spawn(listen(connection.clone(), Arc::clone(&self.host)));
        Ok(Live {
            connection,
            _tasks: tasks,
        })
    }

    fn arguments(&self) -> [OsString; 6] {
        [
            "plugin-host".into(),
            "--sha256".into(),
            self.launch.sha256.clone().into(),
            "--copies".into(),
            self.launch.copies.clone().into(),
            self.launch.library.path.clone().into(),
        ]
    }
}

/// Says in words how the process ended, and sees that it has.
async fn how_it_ended(mut child: Child, connection: Result<(), h2::Error>) -> String {
    match timeout(END_LIMIT, child.wait()).await {
        Ok(Ok(status)) => describe_end(status),
        Ok(Err(error)) => format!("its end cannot be told: {error}"),
        Err(_) => match connection {
            Ok(()) => "it closed its connection".to_owned(),
            Err(error) => format!("its connection broke: {error}"),
        },
    }
}

fn describe_end(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(number), _) => match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => format!("it was ended by {signal}"),
            Err(_) => format!("it was ended by signal {number}"),
        },
        (None, Some(code)) => format!("it ended with code {code}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// Passes on what the plugin tells the host by itself.
async fn listen(connection: Connection, host: Arc<RawHostObject>) {
    let Ok((_, body)) = connection.request("/host", None, Bytes::new(), true).await else {
        return;
    };
    let mut lines = Lines::new(body);
    while let Some(line) = lines.next().await {
        match serde_json::from_slice(&line) {
            Ok(HostLine::Log {
                level,
                target,
                message,
                fields,
            }) => host.log(
                level,
                target.as_str().into(),
                message.as_str().into(),
                fields.as_str().into(),
            ),
            Ok(HostLine::Progress {
                request_id,
                progress,
            }) => {
                if let Ok(progress) = serde_json::to_vec(&progress) {
                    host.notify(request_id.as_bytes(), progress.into());
                }
            }
            Err(error) => tracing::debug!(%error, "a plugin's process tells what cannot be read"),
        }
    }
}

impl Connection {
    /// Sends a document and reads the answer.
    pub(super) async fn ask(
        &self,
        path: &str,
        cx: Option<CallCx>,
        document: Bytes,
    ) -> Result<Bytes> {
        let (_, mut body) = self.request(path, cx, document, true).await?;
        match read_all(&mut body).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.lost(&error).await),
        }
    }

    /// Sends a document and gets a stream.
    pub(super) async fn stream(&self, path: &str, cx: CallCx, document: &[u8]) -> Result<Pipe> {
        let document = framed(document).map_err(Error::internal)?;
        let (send, body) = self.request(path, Some(cx), document, false).await?;
        Ok(Pipe::new(send, body, Bytes::new()))
    }

    async fn request(
        &self,
        path: &str,
        cx: Option<CallCx>,
        document: Bytes,
        end: bool,
    ) -> Result<(h2::SendStream<Bytes>, h2::RecvStream)> {
        let mut request = Request::post(format!("http://plugin{path}"));
        if let Some(cx) = cx {
            request = request
                .header(REQUEST_ID, Uuid::from_bytes(cx.request_id).to_string())
                .header(TIME_LIMIT, cx.time_limit_ms);
        }
        let request = request.body(()).map_err(Error::internal)?;
        let exchange = async {
            let mut requests = self.requests.clone().ready().await?;
            let (answer, mut send) = requests.send_request(request, false)?;
            // The answer says what is wrong, where there is one.
            send_all(&mut send, document, end).await.ok();
            Ok::<_, h2::Error>((send, answer.await?))
        };
        let (send, answer) = match exchange.await {
            Ok(exchanged) => exchanged,
            Err(error) => return Err(self.lost(&error).await),
        };
        let (head, mut body) = answer.into_parts();
        if head.status.is_success() {
            return Ok((send, body));
        }
        let refusal = match read_all(&mut body).await {
            Ok(refusal) => refusal,
            Err(error) => return Err(self.lost(&error).await),
        };
        Err(serde_json::from_slice(&refusal).unwrap_or_else(Error::internal))
    }

    /// The error of a call that was under way when the process ended.
    async fn lost(&self, error: &(dyn std::fmt::Display + Sync)) -> Error {
        let mut ended = self.ended.clone();
        let reason = timeout(2 * END_LIMIT, ended.wait_for(Option::is_some)).await;
        let reason = match reason {
            Ok(Ok(reason)) => reason.clone(),
            Ok(Err(_)) => Some("it was ended".to_owned()),
            Err(_) => None,
        };
        let reason = reason.unwrap_or_else(|| error.to_string());
        Error::new(
            Code::PluginLost,
            format!("the plugin's process was lost: {reason}"),
        )
    }
}
