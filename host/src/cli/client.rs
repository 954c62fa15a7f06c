//! The command line's way to the server.

use crate::config::{Config, Environment, Given};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Serialize;
use serde_json::Value;
use std::net::IpAddr;

/// Why the server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(
        "no berth server answers at {server}; start one with `berth serve`, or name another with --server URL (BERTH_SERVER)"
    )]
    Unreachable { server: String },
    #[error("{message}")]
    Refused {
        status: StatusCode,
        code: String,
        message: String,
    },
    #[error("{server} answered, but not as a berth server does: {problem}")]
    Odd { server: String, problem: String },
    #[error("{given:?} is no address of a server; it looks like http://127.0.0.1:3030")]
    BadAddress { given: String },
}

/// A server to talk to.
#[derive(Debug, Clone)]
pub(super) struct Server {
    base: Url,
    http: Client,
}

impl Server {
    /// The server that was named, by flag or `BERTH_SERVER`; else the one that this user's settings would start.
    pub(super) fn find(named: Option<&str>, environment: &Environment) -> anyhow::Result<Self> {
        let address = match named.or_else(|| environment.variable("BERTH_SERVER")) {
            Some(address) => address.to_owned(),
            None => default_address(environment),
        };
        Self::at(&address)
    }

    /// The server at an address; `http://` may be left out.
    pub(super) fn at(address: &str) -> anyhow::Result<Self> {
        let with_scheme = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let base = with_scheme
            .parse::<Url>()
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host())
            .ok_or_else(|| ClientError::BadAddress {
                given: address.to_owned(),
            })?;
        let http = Client::builder().no_proxy().build()?;
        Ok(Self { base, http })
    }

    /// Where it is, for people.
    pub(super) fn address(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// The address of a socket.
    pub(super) fn socket_url(&self, path: &[&str]) -> Url {
        let mut url = self.url(path);
        // From http to ws is always allowed.
        let _ = url.set_scheme("ws");
        url
    }

    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, ClientError> {
        self.json(self.send(Method::GET, path, query, None::<&()>).await?)
            .await
    }

    pub(super) async fn text(&self, path: &[&str]) -> Result<String, ClientError> {
        let answer = self.send(Method::GET, path, &[], None::<&()>).await?;
        answer.text().await.map_err(|error| self.odd(&error))
    }

    pub(super) async fn post<T: Serialize>(
        &self,
        path: &[&str],
        body: Option<&T>,
    ) -> Result<Value, ClientError> {
        self.json(self.send(Method::POST, path, &[], body).await?)
            .await
    }

    pub(super) async fn delete(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, ClientError> {
        self.json(self.send(Method::DELETE, path, query, None::<&()>).await?)
            .await
    }

    async fn send<T: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&T>,
    ) -> Result<Response, ClientError> {
        let mut request = self.http.request(method, self.url(path)).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| {
            if error.is_connect() {
                ClientError::Unreachable {
                    server: self.address(),
                }
            } else {
                self.odd(&error)
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let id = answer
            .headers()
            .get("x-request-id")
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let body: Value = answer.json().await.map_err(|error| self.odd(&error))?;
        let text = |field: &str| body["error"][field].as_str().map(str::to_owned);
        match (text("code"), text("message")) {
            (Some(code), Some(mut message)) => {
                if let Some(id) = id.filter(|_| code == "INTERNAL") {
                    message = format!("{message} ({id})");
                }
                Err(ClientError::Refused {
                    status,
                    code,
                    message,
                })
            }
            _ => Err(ClientError::Odd {
                server: self.address(),
                problem: format!("status {status} without a reason"),
            }),
        }
    }

    async fn json(&self, answer: Response) -> Result<Value, ClientError> {
        answer.json().await.map_err(|error| self.odd(&error))
    }

    fn odd(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Odd {
            server: self.address(),
            problem: crate::http::chain(error),
        }
    }
}

/// Where `berth serve` would listen.
fn default_address(environment: &Environment) -> String {
    let listen = Config::load(&Given::default(), environment)
        .ok()
        .map(|loaded| loaded.config.listen)
        .filter(|listen| listen.port() != 0);
    match listen {
        Some(listen) if !listen.ip().is_unspecified() => listen.to_string(),
        Some(listen) => match listen.ip() {
            IpAddr::V4(_) => format!("127.0.0.1:{}", listen.port()),
            IpAddr::V6(_) => format!("[::1]:{}", listen.port()),
        },
        None => "127.0.0.1:3030".to_owned(),
    }
}
