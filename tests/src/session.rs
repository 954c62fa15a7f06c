//! One session of a server under test.

use crate::{TestHost, eventually};
use reqwest::StatusCode;
use serde_json::Value;
use std::path::PathBuf;

/// A session that was created.
#[derive(Debug, Clone)]
pub struct TestSession {
    /// Its id.
    pub id: String,
    /// Its name when it was created.
    pub name: String,
    /// What the creation answered.
    pub created: Value,
}

impl TestSession {
    pub(crate) fn new(created: Value) -> Self {
        let text = |field: &str| {
            let value = created[field].as_str();
            value
                .unwrap_or_else(|| panic!("no {field} in {created}"))
                .to_owned()
        };
        Self {
            id: text("id"),
            name: text("name"),
            created,
        }
    }

    /// `/api/sessions/<id>` and more.
    pub fn path(&self, more: &str) -> String {
        format!("/api/sessions/{}{more}", self.id)
    }

    /// The full object.
    pub async fn get(&self, host: &TestHost) -> Value {
        host.get(&self.path("")).await.expect(StatusCode::OK).body
    }

    /// Waits for a status; gives the full object.
    ///
    /// # Panics
    /// It did not come, or `error` came first.
    pub async fn wait_for(&self, host: &TestHost, status: &str) -> Value {
        let what = format!("session {} to be {status}", self.id);
        eventually(&what, async || {
            let seen = self.get(host).await;
            assert!(
                seen["status"] != "error" || status == "error",
                "the session failed: {}",
                seen["status_message"]
            );
            if seen["status"] == status {
                Ok(seen)
            } else {
                Err(seen["status"].clone())
            }
        })
        .await
    }

    /// Its first working tree.
    pub async fn worktree(&self, host: &TestHost) -> PathBuf {
        let seen = self.get(host).await;
        let path = seen["worktree_path"].as_str();
        PathBuf::from(path.unwrap_or_else(|| panic!("no working tree in {seen}")))
    }

    /// Its durable events from the first on.
    pub async fn events(&self, host: &TestHost) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = 0;
        loop {
            let page = host
                .get(&self.path(&format!("/events?after={after}")))
                .await
                .expect(StatusCode::OK)
                .body;
            events.extend(page["events"].as_array().expect("a list of events").clone());
            match page["next_after"].as_u64() {
                Some(next) => after = next,
                None => return events,
            }
        }
    }

    /// Deletes it, with whatever is in it.
    pub async fn delete(&self, host: &TestHost) -> Value {
        host.delete(&self.path("?force=true"))
            .await
            .expect(StatusCode::OK)
            .body
    }
}
