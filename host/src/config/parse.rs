//! How the text or TOML of one setting becomes its value.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A value as it was given.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// By flags or a variable; several where a flag was repeated.
    Text(Vec<String>),
    /// In the file.
    Toml(toml::Value),
}

/// What a setting's value is, and how its text is cut where it is a list.
pub(super) type Parsed<T> = Result<T, String>;

impl Raw {
    /// One piece of text.
    pub(super) fn text(&self) -> Parsed<String> {
        match self {
            Self::Text(values) => values.last().cloned().ok_or_else(|| "has no value".into()),
            Self::Toml(toml::Value::String(text)) => Ok(text.clone()),
            Self::Toml(other) => Err(format!("must be a string, got {}", kind(other))),
        }
    }

    /// A list; in one text its items are parted by `separator`.
    pub(super) fn list(&self, separator: char) -> Parsed<Vec<String>> {
        match self {
            Self::Text(values) => Ok(values
                .iter()
                .flat_map(|value| value.split(separator))
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()),
            Self::Toml(toml::Value::String(text)) => Ok(vec![text.clone()]),
            Self::Toml(toml::Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    toml::Value::String(text) => Ok(text.clone()),
                    other => Err(format!("must be a list of strings, holds {}", kind(other))),
                })
                .collect(),
            Self::Toml(other) => Err(format!("must be a list of strings, got {}", kind(other))),
        }
    }

    /// A whole number from `least` on.
    pub(super) fn number(&self, least: u64) -> Parsed<u64> {
        let number = match self {
            Self::Text(_) => {
                let text = self.text()?;
                text.parse()
                    .map_err(|_| format!("must be a whole number, got {text:?}"))?
            }
            Self::Toml(toml::Value::Integer(number)) => {
                u64::try_from(*number).map_err(|_| format!("must not be negative, got {number}"))?
            }
            Self::Toml(other) => {
                return Err(format!("must be a whole number, got {}", kind(other)));
            }
        };
        if number < least {
            return Err(format!("must be at least {least}, got {number}"));
        }
        Ok(number)
    }
}

fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "a whole number",
        toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a date",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}

/// An address to listen on; `localhost` is known, other names are not looked up.
pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    let numeric = match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        let hint = match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("; the port is missing: [{ip}]:3030"),
            Ok(IpAddr::V4(ip)) => format!("; the port is missing: {ip}:3030"),
            Err(_) => String::new(),
        };
        format!("must be an address and a port, as in 127.0.0.1:3030, got {text:?}{hint}")
    })
}

/// A path: `~` is the home folder, a relative one stands under `base`.
pub(super) fn path(text: &str, base: &Path, home: &Path) -> Parsed<PathBuf> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    Ok(match text.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => base.join(text),
    })
}

/// A length of time: a whole number and `ms`, `s`, `m` or `h`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(milliseconds)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("must be a length of time, as in 500ms, 10s or 5m, got {text:?}"))
}

/// A name by which clients call the server: no scheme, no port, no path.
pub(super) fn host_name(text: &str) -> Parsed<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let fits = !name.is_empty()
        && (name.starts_with('[') && name.ends_with(']')
            || name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'));
    if fits {
        Ok(name)
    } else {
        Err(format!(
            "must be a host's name without scheme and port, as in berth.example.org, got {text:?}"
        ))
    }
}

/// The name nearest to a misspelt one, where one is near.
pub(super) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (edits(text, name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(4).max(1))
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out or changed to get from one word to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
