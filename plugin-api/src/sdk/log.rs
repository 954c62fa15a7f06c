//! The way of the library's log into the host's.
//!
//! A dynamic library has its own copies of `tracing`, `log` and the panic hook, which lead nowhere; these fill them.
//! Fields of spans are left out; the id of the call stands on each line instead.

use super::guard::note_place;
use super::runtime::REQUEST;
use crate::raw::RawHostObject;
use serde_json::{Map, Value};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Leads everything that the library logs to the host. Where something was set up before, that stays.
pub(super) fn install(host: &Arc<RawHostObject>, level: &str) {
    let max: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let _ = tracing::subscriber::set_global_default(HostSubscriber {
        host: Arc::clone(host),
        max,
        next_span: AtomicU64::new(1),
    });
    let logger: &'static HostLogger = Box::leak(Box::new(HostLogger(Arc::clone(host))));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(match max.into_level() {
            Some(Level::ERROR) => log::LevelFilter::Error,
            Some(Level::WARN) => log::LevelFilter::Warn,
            Some(Level::INFO) => log::LevelFilter::Info,
            Some(Level::DEBUG) => log::LevelFilter::Debug,
            Some(Level::TRACE) => log::LevelFilter::Trace,
            None => log::LevelFilter::Off,
        });
    }
    let host = Arc::clone(host);
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let thread = std::thread::current();
        let message = format!(
            "panic at {place} in thread {}: {}",
            thread.name().unwrap_or("without a name"),
            panic.payload_as_str().unwrap_or("without a message")
        );
        note_place(place);
        host.log(1, "panic".into(), message.as_str().into(), "".into());
    }));
}

fn number_of(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// Adds the id of the call that this thread works for, and writes the fields as JSON.
fn write(mut fields: Map<String, Value>) -> String {
    if let Ok(id) = REQUEST.try_with(|id| *id) {
        let id = format!("{:032x}", u128::from_be_bytes(id));
        fields.insert("request_id".to_owned(), Value::String(id));
    }
    if fields.is_empty() {
        return String::new();
    }
    Value::Object(fields).to_string()
}

struct HostSubscriber {
    host: Arc<RawHostObject>,
    max: LevelFilter,
    next_span: AtomicU64,
}

impl Subscriber for HostSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.max
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.next_span.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let level = number_of(*metadata.level());
        if !self.host.enabled(level) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        self.host.log(
            level,
            metadata.target().into(),
            line.message.as_str().into(),
            write(line.fields).as_str().into(),
        );
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message and fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: Map<String, Value>,
}

impl Line {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

struct HostLogger(Arc<RawHostObject>);

impl log::Log for HostLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata.level() as u32)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(
                record.level() as u32,
                record.target().into(),
                record.args().to_string().as_str().into(),
                write(Map::new()).as_str().into(),
            );
        }
    }

    fn flush(&self) {}
}
