//! The key that leaves a session.

use std::fmt;
use std::str::FromStr;

/// A key with Ctrl, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DetachKey {
    /// The character that is pressed with Ctrl: `a` to `z`, `\`, `]`, `^`, `_`.
    Ctrl(u8),
    None,
}

impl Default for DetachKey {
    fn default() -> Self {
        Self::Ctrl(b'\\')
    }
}

impl DetachKey {
    /// Where in typed bytes the key begins.
    ///
    /// Programs may have the terminal tell keys in other forms than a control character: as `CSI 92;5u` (the kitty
    /// keyboard protocol, <https://sw.kovidgoyal.net/kitty/keyboard-protocol/>) or as `CSI 27;5;92~` (xterm's
    /// modifyOtherKeys). All three are known.
    pub(super) fn find(self, typed: &[u8]) -> Option<usize> {
        let Self::Ctrl(key) = self else {
            return None;
        };
        let control = key & 0x1f;
        let forms = [
            vec![control],
            format!("\x1b[{key};5u").into_bytes(),
            format!("\x1b[27;5;{key}~").into_bytes(),
        ];
        forms
            .iter()
            .filter_map(|form| typed.windows(form.len()).position(|window| window == form))
            .min()
    }

    /// The key for people; `None` where there is none.
    pub(super) fn words(self) -> Option<String> {
        match self {
            Self::Ctrl(key) => Some(format!("Ctrl-{}", char::from(key))),
            Self::None => None,
        }
    }
}

impl fmt::Display for DetachKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ctrl(key) => write!(f, "ctrl-{}", char::from(*key)),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for DetachKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        if text == "none" {
            return Ok(Self::None);
        }
        match text
            .strip_prefix("ctrl-")
            .or_else(|| text.strip_prefix('^'))
        {
            Some(key) if key.len() == 1 => match key.as_bytes()[0] {
                key @ (b'a'..=b'z' | b'\\' | b']' | b'^' | b'_') => Ok(Self::Ctrl(key)),
                _ => Err("this key has no form with Ctrl that can be told from others".to_owned()),
            },
            _ => Err("it looks like ctrl-a, ctrl-\\ or none".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_every_form() {
        let check = |key: &str, typed: &str, found: Option<usize>| {
            let key: DetachKey = key.parse().unwrap();
            assert_eq!(key.find(typed.as_bytes()), found, "{key} {typed:?}");
        };
        check("ctrl-\\", "ab\x1cd", Some(2));
        check("ctrl-\\", "\x1b[92;5u", Some(0));
        check("ctrl-\\", "x\x1b[27;5;92~", Some(1));
        check("ctrl-\\", "ab\\", None);
        check("ctrl-a", "\x01", Some(0));
        check("^]", "\x1d", Some(0));
        check("none", "\x1c\x01", None);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in ["", "ctrl-", "ctrl-ab", "a", "ctrl-1", "alt-x"] {
            assert!(bad.parse::<DetachKey>().is_err(), "{bad}");
        }
    }
}
