//! Checking options against a plugin's own JSON Schema.

use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

/// What does not fit a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The schema itself is wrong: its plugin's fault.
    #[error("{0}")]
    Schema(String),
    /// The value is wrong; the message names the field by path.
    #[error("{0}")]
    Value(String),
}

/// Checks `value` against `schema`. `at` is where the value stands (`backends.docker`, `backend_options`); the message
/// names the field below it. A null value counts as an empty object.
///
/// # Errors
/// The value does not fit, or the schema is none.
pub fn check(schema: &Value, value: &Value, at: &str) -> Result<(), Mismatch> {
    let empty = Value::Object(serde_json::Map::new());
    let value = if value.is_null() { &empty } else { value };
    // Making a validator takes a millisecond, which the start of the server need not spend on nothing.
    if *value == empty && schema.is_object() && schema.get("required").is_none() {
        return Ok(());
    }
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| Mismatch::Schema(format!("{}: {error}", error.instance_path())))?;
    let Some(error) = validator.iter_errors(value).next() else {
        return Ok(());
    };
    let mut path = at.to_owned();
    for segment in error.instance_path().as_str().split('/').skip(1) {
        if segment.bytes().all(|byte| byte.is_ascii_digit()) && !segment.is_empty() {
            path.extend(["[", segment, "]"]);
        } else {
            path.push('.');
            path.push_str(&segment.replace("~1", "/").replace("~0", "~"));
        }
    }
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = known_properties(schema);
            let field = unexpected.first().map(String::as_str).unwrap_or_default();
            format!("{path}.{field}: there is no such option{known}")
        }
        ValidationErrorKind::Required { property } => {
            let field = property.as_str().unwrap_or_default();
            format!("{path}.{field}: it is missing")
        }
        _ => format!("{path}: {error}"),
    };
    Err(Mismatch::Value(message))
}

fn known_properties(schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return String::new();
    };
    let names: Vec<_> = properties.keys().map(String::as_str).collect();
    format!(" (there are: {})", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_names_the_field() {
        let schema = json!({
            "type": "object",
            "properties": {
                "socket": {"type": "string"},
                "dns": {"type": "array", "items": {"type": "string"}},
                "limits": {"type": "object", "properties": {"cpu": {"type": "number"}}},
            },
            "additionalProperties": false,
        });
        let check = |value: Value| check(&schema, &value, "backends.docker");
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(Value::Null), Ok(()));
        assert_eq!(check(json!({"socket": "/run/docker.sock"})), Ok(()));
        let message = |value| check(value).unwrap_err().to_string();
        for (value, start) in [
            (json!({"socket": 1}), "backends.docker.socket: "),
            (json!({"dns": ["a", 2]}), "backends.docker.dns[1]: "),
            (
                json!({"limits": {"cpu": "x"}}),
                "backends.docker.limits.cpu: ",
            ),
            (
                json!({"sockets": "x"}),
                "backends.docker.sockets: there is no such option (there are: ",
            ),
            (json!(1), "backends.docker: "),
        ] {
            let message = message(value);
            assert!(message.starts_with(start), "{message}");
        }
    }

    #[test]
    fn what_is_required_is_named_and_a_wrong_schema_is_told_apart() {
        let schema = json!({"type": "object", "required": ["url"]});
        assert_eq!(
            check(&schema, &Value::Null, "agents.x")
                .unwrap_err()
                .to_string(),
            "agents.x.url: it is missing"
        );
        assert!(matches!(
            check(&json!({"type": 1}), &json!({"a": 1}), "agents.x"),
            Err(Mismatch::Schema(_))
        ));
    }
}
