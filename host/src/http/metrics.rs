//! What is counted, and its Prometheus text.

use http::{Method, StatusCode};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper edges of the classes of answer times, in seconds.
const EDGES: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Counters of the HTTP interface.
#[derive(Debug, Default)]
pub struct Metrics {
    answers: Mutex<BTreeMap<(String, String, u16), Answers>>,
    /// Sockets of `/ws/events` that are open.
    pub event_sockets: Gauge,
    /// Sockets of `/ws/console` that are open.
    pub console_sockets: Gauge,
    /// Clients that were cut off because they did not keep up.
    pub slow_clients: AtomicU64,
}

#[derive(Debug, Default)]
struct Answers {
    count: u64,
    seconds: f64,
    classes: [u64; EDGES.len()],
}

/// How many of something there are.
#[derive(Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// One of what a [`Gauge`] counts; gone when dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicU64>);

impl Gauge {
    /// Counts one more until the answer is dropped.
    pub fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(super) fn answered(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        took: Duration,
    ) {
        // Methods are the client's own words: only known ones make a series.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (method.to_owned(), route.to_owned(), status.as_u16());
        let answer = answers.entry(key).or_default();
        let seconds = took.as_secs_f64();
        answer.count += 1;
        answer.seconds += seconds;
        for (edge, class) in EDGES.iter().zip(&mut answer.classes) {
            if seconds <= *edge {
                *class += 1;
            }
        }
    }

    /// The Prometheus text of all that is counted here.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "# HELP berth_http_request_seconds How long answers took."
        )?;
        writeln!(out, "# TYPE berth_http_request_seconds histogram")?;
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, route, status), answer) in answers.iter() {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            let name = "berth_http_request_seconds";
            for (edge, class) in EDGES.iter().zip(&answer.classes) {
                writeln!(out, "{name}_bucket{{{labels},le=\"{edge}\"}} {class}")?;
            }
            let count = answer.count;
            writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(out, "{name}_sum{{{labels}}} {}", answer.seconds)?;
            writeln!(out, "{name}_count{{{labels}}} {count}")?;
        }
        drop(answers);
        writeln!(out, "# HELP berth_sockets WebSockets that are open.")?;
        writeln!(out, "# TYPE berth_sockets gauge")?;
        writeln!(
            out,
            "berth_sockets{{kind=\"events\"}} {}",
            self.event_sockets.value()
        )?;
        writeln!(
            out,
            "berth_sockets{{kind=\"console\"}} {}",
            self.console_sockets.value()
        )?;
        writeln!(
            out,
            "# HELP berth_slow_clients_total Clients cut off because they did not keep up."
        )?;
        writeln!(out, "# TYPE berth_slow_clients_total counter")?;
        writeln!(
            out,
            "berth_slow_clients_total {}",
            self.slow_clients.load(Ordering::Relaxed)
        )
    }
}
