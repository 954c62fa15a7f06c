//! What stands behind the question mark.

use super::{Refusal, code};
use std::collections::BTreeMap;
use std::str::FromStr;

/// A query's pairs, decoded. Unknown ones are not looked at: a newer host may send them.
#[derive(Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(query: &str) -> Result<Self, Refusal> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        decoded.collect::<Result<_, Refusal>>().map(Self)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&str, Refusal> {
        self.find(name)
            .ok_or_else(|| Refusal::new(code::INVALID, format!("the query lacks {name}")))
    }

    /// A number or the like; `None` where it is not given.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.find(name)
            .map(|value| {
                let wrong = || format!("{name} cannot be {value}");
                value
                    .parse()
                    .map_err(|_| Refusal::new(code::INVALID, wrong()))
            })
            .transpose()
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        Ok(self.parsed(name)?.unwrap_or(false))
    }
}

fn decode(text: &str) -> Result<String, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => high * 16 + low,
                _ => return Err(Refusal::new(code::INVALID, "a broken % in the query")),
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Refusal::new(code::INVALID, "the query is not UTF-8"))
}

fn digit(byte: Option<u8>) -> Option<u8> {
    let digit = char::from(byte?).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse("path=%2Fa%20b+c%C3%A4&offset=12&flag=true&empty").unwrap();
        assert_eq!(query.find("path"), Some("/a b cä"));
        assert_eq!(query.parsed::<u64>("offset").unwrap(), Some(12));
        assert_eq!(query.find("empty"), Some(""));
        assert!(query.flag("flag").unwrap());
        assert!(!query.flag("other").unwrap());
    }

    #[test]
    fn what_is_broken_is_refused() {
        for query in ["a=%", "a=%2", "a=%zz", "a=%ff"] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
        let query = Query::parse("offset=-1").unwrap();
        assert!(query.parsed::<u64>("offset").is_err());
        assert!(query.get("path").is_err());
    }
}
