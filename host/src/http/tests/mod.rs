//! What a client sees, against the whole server on a real socket.

mod rules;
mod socket;
mod stop;

use crate::app::{App, AppError};
use crate::config::{Config, Environment, Given, Loaded};
use crate::http::AppState;
use http::Method;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server without plugins, in this process.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) state: AppState,
    client: Client,
    stop: DropGuard,
    ended: oneshot::Receiver<Result<(), AppError>>,
    _folder: TempDir,
}

impl Server {
    pub(super) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut environment = Environment {
            directory: folder.path().to_owned(),
            ..Environment::default()
        };
        let home = folder.path().to_str().unwrap().to_owned();
        environment.variables.insert("HOME".to_owned(), home);
        let mut given = Given::default();
        given.flags.insert("listen", vec!["127.0.0.1:0".to_owned()]);
        given
            .flags
            .insert("hosts", vec!["berth.example.org".to_owned()]);
        let Loaded { config, .. } = Config::load(&given, &environment).unwrap();
        let stop = CancellationToken::new();
        let (tell_start, listening) = oneshot::channel();
        let (tell_end, ended) = oneshot::channel();
        let token = stop.clone();
        // A thread of its own, as the program has: the server's whole future need not move between threads.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let end = runtime.block_on(async {
                let app = App::build(config).await?;
                let state = app.state();
                app.run(token, |_| tell_start.send(state).unwrap()).await
            });
            // Nobody listens where the test has ended first.
            let _ = tell_end.send(end);
        });
        let state: AppState = listening.await.unwrap();
        Self {
            address: state.address(),
            state,
            client: Client::builder().no_proxy().build().unwrap(),
            stop: stop.drop_guard(),
            ended,
            _folder: folder,
        }
    }

    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    /// Sends bytes as they are and gives all that comes back.
    pub(super) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks the server to stop, and gives its end.
    pub(super) fn stop(self) -> oneshot::Receiver<Result<(), AppError>> {
        drop(self.stop);
        self.ended
    }
}

/// A fault's status, code and message.
pub(super) async fn fault(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(kind, "application/json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let error = body["error"].as_object().unwrap();
    assert_eq!(error.len(), 2, "{body}");
    (
        status,
        error["code"].as_str().unwrap().to_owned(),
        error["message"].as_str().unwrap().to_owned(),
    )
}
