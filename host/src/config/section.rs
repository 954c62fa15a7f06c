//! The part of the configuration that belongs to a plugin.

use super::source::Environment;
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// `[backends.<name>]` or `[agents.<name>]`.
#[derive(Clone, Default, PartialEq)]
pub struct PluginSection {
    /// As given: secrets are references. May be shown.
    pub given: Value,
    /// With every reference resolved: for the plugin alone.
    pub resolved: Value,
}

impl fmt::Debug for PluginSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginSection")
            .field("given", &self.shown())
            .finish_non_exhaustive()
    }
}

/// Words that mark a key whose plain value is not shown.
const SECRET_WORDS: [&str; 6] = ["password", "secret", "token", "key", "credential", "auth"];

impl PluginSection {
    /// Takes a section as it stands in the file, and resolves its references; faults are told with the key's path.
    pub(super) fn resolve(
        given: Value,
        environment: &Environment,
        folder: &Path,
        fault: &mut dyn FnMut(String, String),
    ) -> Self {
        let mut resolved = given.clone();
        resolve_in_place(&mut resolved, "", environment, folder, fault);
        Self { given, resolved }
    }

    /// What may be shown: references as they are, and no plain value of a key that sounds like a secret.
    pub fn shown(&self) -> Value {
        let mut shown = self.given.clone();
        hide_in_place(&mut shown, false);
        shown
    }
}

fn resolve_in_place(
    value: &mut Value,
    path: &str,
    environment: &Environment,
    folder: &Path,
    fault: &mut dyn FnMut(String, String),
) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                resolve_in_place(field, &format!("{path}.{name}"), environment, folder, fault);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                resolve_in_place(
                    item,
                    &format!("{path}[{index}]"),
                    environment,
                    folder,
                    fault,
                );
            }
        }
        Value::String(text) => match reference(text, environment, folder) {
            Some(Ok(secret)) => *text = secret,
            Some(Err(message)) => fault(path.to_owned(), message),
            None => {}
        },
        _ => {}
    }
}

/// What a reference stands for; `None` where the text is none.
pub(super) fn reference(
    text: &str,
    environment: &Environment,
    folder: &Path,
) -> Option<Result<String, String>> {
    if let Some(name) = text.strip_prefix("env:") {
        Some(
            environment
                .variable(name)
                .map(str::to_owned)
                .ok_or_else(|| format!("the environment variable {name} is not set")),
        )
    } else if let Some(path) = text.strip_prefix("file:") {
        let path = folder.join(path);
        Some(match std::fs::read_to_string(&path) {
            Ok(content) => Ok(content.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        })
    } else {
        None
    }
}

fn hide_in_place(value: &mut Value, secret: bool) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.to_ascii_lowercase();
                let sounds_secret = SECRET_WORDS.iter().any(|word| name.contains(word));
                hide_in_place(field, secret || sounds_secret);
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| hide_in_place(item, secret)),
        Value::String(text)
            if secret && !text.starts_with("env:") && !text.starts_with("file:") =>
        {
            "(hidden)".clone_into(text);
        }
        _ => {}
    }
}
