//! A shell, or any other program, in a session's terminal.
//!
//! The program is what `agent_options.command` says, else the login shell of the session's user, else `/bin/sh`. It keeps
//! no records of what is said to it, so there are no chat events; a prompt, and each message after it, is typed as lines.

use berth_plugin_api::doc::{
    AgentCapabilities, AgentDescription, Command, DecoderRequest, DeliverRequest, Delivery,
    Keystrokes, LaunchPlan, LaunchRequest, OpenRequest,
};
use berth_plugin_api::{Agent, Error, NoRecords, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The shell where the user's own is not known, as in a container.
const DEFAULT_SHELL: &str = "/bin/sh";

/// The agent for shells and plain programs.
#[derive(Debug)]
pub struct ShellAgent;

/// `agent_options` of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShellOptions {
    /// The program to run instead of the login shell: a list of program and arguments, or a line for the shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<ShellCommand>,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ShellCommand {
    /// The program and its arguments, as they are.
    Words(#[schemars(length(min = 1))] Vec<String>),
    /// A line that the shell reads.
    Line(#[schemars(length(min = 1))] String),
}

impl Agent for ShellAgent {
    type Decoder = NoRecords;

    fn describe() -> AgentDescription {
        AgentDescription {
            capabilities: AgentCapabilities {
                prompt_optional: true,
                ..AgentCapabilities::default()
            },
            config_schema: None,
            options_schema: Some(schemars::schema_for!(ShellOptions).to_value()),
        }
    }

    fn open(_request: OpenRequest) -> Result<Self> {
        Ok(Self)
    }

    fn launch(&self, request: LaunchRequest) -> Result<LaunchPlan> {
        let context = request.context;
        let options = parse_options(context.options)?;
        let shell = context
            .login_shell
            .filter(|shell| !shell.is_empty())
            .unwrap_or_else(|| DEFAULT_SHELL.to_owned());
        Ok(LaunchPlan {
            main: Command {
                argv: argv(options.command, &shell)?,
                ..Command::default()
            },
            typed: lines(request.prompt.as_deref().unwrap_or_default()),
            ..LaunchPlan::default()
        })
    }

    fn deliver(&self, request: DeliverRequest) -> Result<Delivery> {
        Ok(Delivery {
            typed: lines(&request.content),
        })
    }

    fn decoder(&self, _request: DecoderRequest) -> Result<NoRecords> {
        Ok(NoRecords)
    }
}

fn parse_options(options: Value) -> Result<ShellOptions> {
    if options.is_null() {
        return Ok(ShellOptions::default());
    }
    serde_json::from_value(options).map_err(|_| {
        Error::invalid(
            "agent_options",
            "agent_options of a shell are {\"command\": [\"program\", \"argument\"]} or {\"command\": \"line\"}",
        )
    })
}

fn argv(command: Option<ShellCommand>, shell: &str) -> Result<Vec<String>> {
    let empty = || {
        Error::invalid(
            "agent_options.command",
            "agent_options.command names no program",
        )
    };
    let argv = match command {
        None => vec![shell.to_owned()],
        Some(ShellCommand::Words(words)) => words,
        Some(ShellCommand::Line(line)) if line.trim().is_empty() => return Err(empty()),
        Some(ShellCommand::Line(line)) => vec![shell.to_owned(), "-c".to_owned(), line],
    };
    if argv.first().is_none_or(String::is_empty) {
        return Err(empty());
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid(
            "agent_options.command",
            "agent_options.command holds a NUL byte, which no program can be given",
        ));
    }
    Ok(argv)
}

/// Text as typed lines, each ended by the return key. Control characters are left out, so that what is said cannot press
/// keys: no escape sequence, no Ctrl-C. Only a tab passes, since text may hold it.
fn lines(text: &str) -> Vec<Keystrokes> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = text.trim_end_matches('\n');
    if text.is_empty() {
        return Vec::new();
    }
    text.split('\n')
        .map(|line| {
            let typed: String = line
                .chars()
                .filter(|character| *character == '\t' || !character.is_control())
                .collect();
            Keystrokes {
                text: format!("{typed}\r"),
                then_wait_ms: 0,
            }
        })
        .collect()
}

berth_plugin_api::export_plugin! { agent: ShellAgent, name: "shell" }

#[cfg(test)]
mod tests;
