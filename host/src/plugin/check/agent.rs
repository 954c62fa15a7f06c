//! Duties of agents.

use super::{Outcome, Report, library};
use crate::driver::AgentDriver;
use berth_plugin_api::doc::{
    AgentContext, AgentEvent, DecoderRequest, DeliverRequest, EventSource, LaunchPlan,
    LaunchRequest,
};
use berth_plugin_api::{Error, Result};
use serde_json::{Value, json};

/// What no agent's records are, and what some are: an agent passes over what it does not know.
const RECORDS: &[u8] = b"{\"type\":\"user\",\"message\":{\"role\":\"user\",\"content\":\"hi\"}}\n\xff\xfe not JSON {\n\n\
    {\"type\":17}\n[]\n{\"timestamp\":\"2026-01-01T00:00:00Z\",\"type\":\"event_msg\",\"payload\":{\"type\":\"agent_message\"}}\n\
    {\"hook\":\"Stop\",\"at\":\"2026-01-01T00:00:00Z\",\"input\":{\"session_id\":\"a\"}}\n{\"torn\": tru";

pub(super) async fn check(report: &mut Report, agent: &dyn AgentDriver) {
    let description = agent.description();
    library::check_schemas(
        report,
        description.config_schema.as_ref(),
        description.options_schema.as_ref(),
    );
    let request = LaunchRequest {
        context: context(),
        prompt: Some("say \"hi\"; $(true)\n'x'".to_owned()),
        resume: None,
    };
    let plan = agent.launch(&request).await;
    report.must(
        "A-01",
        "`launch` names a program, and only absolute paths",
        match &plan {
            Ok(plan) => Outcome::of(sound(plan)),
            Err(error) => Outcome::Broken(error.to_string()),
        },
    );
    let again = agent.launch(&request).await;
    report.should(
        "A-02",
        "`launch` computes only: the same request, the same plan (but for a conversation's id)",
        Outcome::kept_if(
            matches!((&plan, &again), (Ok(one), Ok(two)) if without_id(one) == without_id(two)),
            || "two answers to one request differ".to_owned(),
        ),
    );
    let delivered = agent
        .deliver(&DeliverRequest {
            context: context(),
            content: "two\nlines".to_owned(),
        })
        .await;
    report.must(
        "A-03",
        "`deliver` says what to type",
        match delivered {
            Ok(delivery) => {
                Outcome::kept_if(!delivery.typed.is_empty(), || "it types nothing".to_owned())
            }
            Err(error) => Outcome::Broken(error.to_string()),
        },
    );
    decoder(report, agent).await;
}

async fn decoder(report: &mut Report, agent: &dyn AgentDriver) {
    let whole = decode(agent, &[RECORDS]).await;
    report.must(
        "A-04",
        "a decoder passes over what it does not know",
        Outcome::of(whole.as_ref().map(drop)),
    );
    let Ok((events, state)) = whole else { return };
    let bytes: Vec<&[u8]> = RECORDS.chunks(1).collect();
    let split = decode(agent, &bytes).await;
    report.must(
        "A-05",
        "a decoder gives the same events wherever its input is cut",
        match split {
            Ok((split, _)) => Outcome::kept_if(split == events, || {
                format!("whole: {events:?}; byte by byte: {split:?}")
            }),
            Err(error) => Outcome::Broken(error.to_string()),
        },
    );
    report.must(
        "A-06",
        "a decoder made from a state goes on from it",
        Outcome::of(resumes(agent, &events, &state).await),
    );
}

/// That a decoder which is saved and made anew at each line gives the same events.
async fn resumes(agent: &dyn AgentDriver, events: &[AgentEvent], state: &Value) -> Result<()> {
    let mut seen = Vec::new();
    let mut saved = Value::Null;
    for line in RECORDS.split_inclusive(|byte| *byte == b'\n') {
        let mut decoder = agent.decoder(&from(saved)).await?;
        seen.extend(decoder.feed(0, line).await?);
        saved = decoder.state().await?;
    }
    if seen != events || saved != *state {
        return Err(Error::internal(format!(
            "in one go: {events:?} and {state}; with its state saved at each line: {seen:?} and {saved}"
        )));
    }
    Ok(())
}

async fn decode(agent: &dyn AgentDriver, parts: &[&[u8]]) -> Result<(Vec<AgentEvent>, Value)> {
    let mut decoder = agent.decoder(&from(Value::Null)).await?;
    let mut events = Vec::new();
    for part in parts {
        events.extend(decoder.feed(0, part).await?);
    }
    Ok((events, decoder.state().await?))
}

fn from(state: Value) -> DecoderRequest {
    DecoderRequest {
        context: context(),
        state,
    }
}

fn context() -> AgentContext {
    AgentContext {
        session_id: "01900000-0000-7000-8000-000000000000".to_owned(),
        session_name: "check".to_owned(),
        cwd: "/work/project".to_owned(),
        home: "/home/agent".to_owned(),
        login_shell: Some("/bin/bash".to_owned()),
        keeper: "/berth/keeper".to_owned(),
        options: json!({}),
        ..AgentContext::default()
    }
}

fn sound(plan: &LaunchPlan) -> Result<(), String> {
    let commands = std::iter::once(&plan.main).chain(&plan.sidecars);
    if commands
        .into_iter()
        .any(|command| command.argv.first().is_none_or(String::is_empty))
    {
        return Err("a command has no program".to_owned());
    }
    let globs = plan.sources.iter().filter_map(|source| match source {
        EventSource::Follow { glob } => Some(glob),
        EventSource::Hooks => None,
    });
    let paths = plan.files.iter().map(|file| &file.path).chain(globs);
    for path in paths {
        if !path.starts_with('/') {
            return Err(format!("{path:?} is not absolute"));
        }
    }
    Ok(())
}

/// A plan, less the id that a plugin may choose anew each time, wherever it stands.
fn without_id(plan: &LaunchPlan) -> String {
    let text = format!("{plan:?}");
    match plan.native_id.as_deref() {
        Some(id) if !id.is_empty() => text.replace(id, "ID"),
        _ => text,
    }
}
