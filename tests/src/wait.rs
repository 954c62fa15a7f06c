//! Waiting for what must come, and for no longer than it may take.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything may take before a test fails. Far more than it takes: the machine may be busy.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Waits for a future.
///
/// # Panics
/// It took longer than [`LIMIT`]; the message names `what`.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing after {LIMIT:?}"))
}

/// Looks again and again until `look` answers `Ok`.
///
/// # Panics
/// It did not within [`LIMIT`]; the message names `what` and what was seen last.
pub async fn eventually<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let since = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => assert!(
                since.elapsed() < LIMIT,
                "{what}: not after {LIMIT:?}; last seen: {seen:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
