//! How a session is named.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;
use uuid::Uuid;

/// A session's id, unique for ever; ids sort by the time they were made.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, format = Uuid)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A new id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A session's name: 1 to 63 characters, `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, unique among sessions that are not deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct SessionName(String);

/// The text breaks the rule for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 63 characters of a-z, 0-9 and '-', and neither starts nor ends with '-'; got {0:?}"
)]
pub struct InvalidSessionName(String);

impl SessionName {
    /// The longest name.
    pub const MAX_LEN: usize = 63;

    /// Takes a name as it is.
    ///
    /// # Errors
    /// It breaks the rule.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSessionName(text.to_owned()))
        }
    }

    /// Makes a name of any text, of its first words; `None` where it holds no letter or digit.
    pub fn slug(text: &str) -> Option<Self> {
        let mut slug = String::new();
        for character in text.chars() {
            if slug.len() >= Self::MAX_LEN {
                break;
            }
            match character.to_ascii_lowercase() {
                letter @ ('a'..='z' | '0'..='9') => slug.push(letter),
                _ if slug.is_empty() || slug.ends_with('-') => {}
                _ => slug.push('-'),
            }
        }
        Self::parse(slug.trim_matches('-')).ok()
    }

    /// The name of a session of which nothing is known.
    pub(super) fn fallback() -> Self {
        Self("session".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a caller names a session: by its id, or by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionKey {
    Id(SessionId),
    Name(SessionName),
    /// Text that no session can have as id or name: never found, and quoted in the answer.
    Other(String),
}

impl SessionKey {
    /// Takes what stands in a path or a message. Any text is a key.
    pub fn parse(text: &str) -> Self {
        if let Ok(id) = text.parse() {
            Self::Id(id)
        } else if let Ok(name) = SessionName::parse(text) {
            Self::Name(name)
        } else {
            Self::Other(text.to_owned())
        }
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<SessionId> for SessionKey {
    fn from(id: SessionId) -> Self {
        Self::Id(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_rule() {
        for good in ["a", "0", "fix-login", "a--b", &"x".repeat(63)] {
            assert_eq!(SessionName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a_b", "ä", "a b", &"x".repeat(64)] {
            assert!(SessionName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn any_text_is_slugged() {
        let check = |text: &str, slug: Option<&str>| {
            assert_eq!(
                SessionName::slug(text).as_ref().map(SessionName::as_str),
                slug,
                "{text:?}"
            );
        };
        check("Fix the login bug!", Some("fix-the-login-bug"));
        check("  --A__b  ", Some("a-b"));
        check("äöü", None);
        check(&"ab ".repeat(40), Some(&"ab-".repeat(21)[..62]));
    }
}
