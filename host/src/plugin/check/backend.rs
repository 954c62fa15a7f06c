//! Duties of backends that can be checked without making a place.

use super::{Outcome, Report, library};
use crate::driver::{BackendDriver, Call};
use berth_plugin_api::doc::{
    DeleteRequest, ListRequest, PlaceRequest, PlaceState, SessionRef, StopRequest, WatchRequest,
};
use berth_plugin_api::{Code, Error};
use futures_util::future::join_all;
use serde_json::Value;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 32;
const UNKNOWN: &str = "00000000-0000-7000-8000-000000000000";

pub(super) async fn check(report: &mut Report, backend: &dyn BackendDriver) {
    let description = backend.description();
    library::check_schemas(
        report,
        description.config_schema.as_ref(),
        description.options_schema.as_ref(),
    );
    let available = probe(report, backend).await;
    match available {
        Ok(()) => absent(report, backend).await,
        Err(reason) => report.must(
            "B-03",
            "what concerns an absent place is answered",
            Outcome::Skipped(reason),
        ),
    }
    let since = Instant::now();
    backend.shutdown(LIMIT).await;
    let taken = since.elapsed();
    report.should(
        "B-09",
        "it shuts down within 5 seconds",
        Outcome::kept_if(taken <= PROBE_LIMIT, || format!("it took {taken:?}")),
    );
}

/// Whether sessions could be made, with the reason why not.
async fn probe(report: &mut Report, backend: &dyn BackendDriver) -> Result<(), String> {
    const ANSWERS: &str =
        "`probe` answers within 5 seconds, with the architecture, or with a reason why not";
    let answer = match backend.probe(Call::new(PROBE_LIMIT)).await {
        Ok(answer) => answer,
        Err(error) => {
            report.must("B-01", ANSWERS, Outcome::Broken(error.to_string()));
            return Err("`probe` failed".to_owned());
        }
    };
    let whole = if answer.available {
        !answer.architecture.is_empty()
    } else {
        answer.reason.is_some()
    };
    report.must(
        "B-01",
        ANSWERS,
        Outcome::kept_if(whole, || {
            "the architecture or the reason is missing".to_owned()
        }),
    );
    let probes = join_all((0..AT_ONCE).map(|_| backend.probe(Call::new(PROBE_LIMIT)))).await;
    report.must(
        "B-02",
        "many calls run at once",
        Outcome::of(probes.into_iter().try_for_each(|probe| probe.map(drop))),
    );
    if answer.available {
        Ok(())
    } else {
        Err(format!(
            "the backend is not available: {}",
            answer.reason.unwrap_or_default()
        ))
    }
}

async fn absent(report: &mut Report, backend: &dyn BackendDriver) {
    let call = || Call::new(LIMIT);
    let instance = format!("check-{}", uuid::Uuid::new_v4());
    let place = PlaceRequest {
        session: SessionRef {
            id: UNKNOWN.to_owned(),
            name: "absent".to_owned(),
            instance: instance.clone(),
        },
        handle: Value::Null,
    };
    let listed = backend
        .list(
            call(),
            &ListRequest {
                instance: instance.clone(),
            },
        )
        .await;
    report.must(
        "B-03",
        "`list` answers the places of one installation only",
        match listed {
            Ok(places) => Outcome::kept_if(places.places.is_empty(), || {
                format!(
                    "{} places of an installation that was never",
                    places.places.len()
                )
            }),
            Err(error) => Outcome::Broken(error.to_string()),
        },
    );
    let inspected = backend.inspect(call(), &place).await;
    report.must(
        "B-04",
        "`inspect` of an absent place answers that it is missing",
        match inspected {
            Ok(seen) => Outcome::kept_if(
                matches!(seen.state, PlaceState::Missing | PlaceState::DataLost),
                || format!("it answers {:?}", seen.state),
            ),
            Err(error) => Outcome::Broken(error.to_string()),
        },
    );
    let stop = StopRequest {
        place: place.clone(),
        grace_ms: 100,
    };
    let stopped = backend.stop(call(), &stop).await;
    report.must(
        "B-05",
        "`stop` of an absent place succeeds",
        Outcome::of(stopped),
    );
    let delete = DeleteRequest {
        place: place.clone(),
        data: true,
    };
    for (duty, text) in [
        (
            "B-06",
            "`delete` of an absent place succeeds, by the session's id alone",
        ),
        ("B-07", "`delete` succeeds again"),
    ] {
        let deleted = backend.delete(call(), &delete).await;
        report.must(duty, text, Outcome::of(deleted.map(drop)));
    }
    let connected = backend.connect(call(), &place).await;
    report.must(
        "B-08",
        "`connect` to an absent place is an error, in time",
        match connected {
            Ok(_) => Outcome::Broken("it gives a stream".to_owned()),
            Err(error) => Outcome::kept_if(!is_fault(&error), || error.to_string()),
        },
    );
    if backend.description().capabilities.watch {
        let watched = backend.watch(call(), &WatchRequest { instance }).await;
        report.must(
            "B-10",
            "`watch` opens, as the capability says",
            Outcome::of(watched.map(drop)),
        );
    }
}

/// The plugin failed, rather than answer an error.
fn is_fault(error: &Error) -> bool {
    matches!(
        error.code,
        Code::Panic | Code::Deadline | Code::PluginLost | Code::Unsupported
    )
}
