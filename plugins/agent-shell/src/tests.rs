use super::*;
use berth_plugin_api::doc::AgentContext;
use berth_plugin_api::{Code, Decoder as _};
use serde_json::json;

fn launch(login_shell: Option<&str>, options: Value, prompt: Option<&str>) -> Result<LaunchPlan> {
    ShellAgent.launch(LaunchRequest {
        context: AgentContext {
            login_shell: login_shell.map(str::to_owned),
            options,
            ..AgentContext::default()
        },
        prompt: prompt.map(str::to_owned),
        ..LaunchRequest::default()
    })
}

#[test]
fn the_program_is_what_was_asked_for_else_the_login_shell() {
    let check = |login_shell, options: Value, expected: &[&str]| {
        let plan = launch(login_shell, options, None).unwrap();
        assert_eq!(plan.main.argv, expected);
        assert!(plan.typed.is_empty());
    };
    check(None, Value::Null, &["/bin/sh"]);
    check(Some(""), json!({}), &["/bin/sh"]);
    check(Some("/bin/zsh"), json!({}), &["/bin/zsh"]);
    check(None, json!({"command": ["top", "-b"]}), &["top", "-b"]);
    check(
        None,
        json!({"command": "ls | wc"}),
        &["/bin/sh", "-c", "ls | wc"],
    );
    check(
        Some("/bin/bash"),
        json!({"command": "ls"}),
        &["/bin/bash", "-c", "ls"],
    );
}

#[test]
fn wrong_options_are_named() {
    for (options, field) in [
        (json!({"command": []}), "agent_options.command"),
        (json!({"command": [""]}), "agent_options.command"),
        (json!({"command": " "}), "agent_options.command"),
        (json!({"command": ["a\0b"]}), "agent_options.command"),
        (json!({"command": 1}), "agent_options"),
        (json!({"comand": "ls"}), "agent_options"),
        (json!("ls"), "agent_options"),
    ] {
        let error = launch(None, options.clone(), None).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{options}");
        assert_eq!(error.detail.field.as_deref(), Some(field), "{options}");
    }
}

#[test]
fn a_prompt_is_typed_as_the_first_line() {
    let plan = launch(None, Value::Null, Some("echo hello")).unwrap();
    assert_eq!(plan.typed.len(), 1);
    assert_eq!(plan.typed[0].text, "echo hello\r");
    assert!(
        launch(None, Value::Null, Some(""))
            .unwrap()
            .typed
            .is_empty()
    );
}

#[test]
fn what_is_said_cannot_press_keys() {
    let check = |content: &str, expected: &[&str]| {
        let delivery = ShellAgent
            .deliver(DeliverRequest {
                content: content.to_owned(),
                ..DeliverRequest::default()
            })
            .unwrap();
        let typed: Vec<&str> = delivery
            .typed
            .iter()
            .map(|keys| keys.text.as_str())
            .collect();
        assert_eq!(typed, expected, "{content:?}");
    };
    check("ls", &["ls\r"]);
    check("a\nb\r\nc\rd\n\n", &["a\r", "b\r", "c\r", "d\r"]);
    check("a\n\nb", &["a\r", "\r", "b\r"]);
    check("\x1b[201~rm\x03 x\x7f\u{9b}\x00", &["[201~rm x\r"]);
    check("a\tä✓", &["a\tä✓\r"]);
    check("", &[]);
    check("\n", &[]);
}

#[test]
fn it_keeps_no_records() {
    let mut decoder = ShellAgent.decoder(DecoderRequest::default()).unwrap();
    assert!(decoder.feed(0, b"anything\n").is_empty());
    assert_eq!(decoder.state(), Value::Null);
}

#[test]
fn its_schema_takes_both_forms_of_a_command() {
    let schema = ShellAgent::describe().options_schema.unwrap();
    assert_eq!(schema["type"], "object");
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["command"].is_object());
}
