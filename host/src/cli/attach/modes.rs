//! Which modes the session's program left the terminal in, so that leaving sets back those and no others.

/// What is looked for: DEC private modes that make a terminal unusable for the next program, and how each is set back.
const WATCHED: [(u16, bool); 12] = [
    (1, false),
    (25, true),
    (47, false),
    (1000, false),
    (1002, false),
    (1003, false),
    (1004, false),
    (1006, false),
    (1047, false),
    (1049, false),
    (2004, false),
    (2026, false),
];
/// The longest control sequence that is looked at.
const LONGEST: usize = 64;

/// Reads along with the output.
#[derive(Debug, Default)]
pub(super) struct Modes {
    state: State,
    parameters: Vec<u8>,
    /// Modes that differ from how they are to be left, by number.
    changed: Vec<u16>,
    /// Levels of the kitty keyboard protocol that were pushed.
    keyboards: u32,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Ground,
    Escape,
    Control,
}

impl Modes {
    /// Takes output on its way to the terminal.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = match (self.state, *byte) {
                (_, 0x1b) => State::Escape,
                (State::Escape, b'[') => {
                    self.parameters.clear();
                    State::Control
                }
                (State::Control, 0x20..=0x3f) if self.parameters.len() < LONGEST => {
                    self.parameters.push(*byte);
                    State::Control
                }
                (State::Control, last @ 0x40..=0x7e) => {
                    self.apply(last);
                    State::Ground
                }
                _ => State::Ground,
            };
        }
    }

    fn apply(&mut self, last: u8) {
        match (self.parameters.first(), last) {
            (Some(b'?'), b'h' | b'l') => {
                let numbers = String::from_utf8_lossy(&self.parameters[1..]).into_owned();
                for number in numbers.split(';').filter_map(|text| text.parse().ok()) {
                    let Some((_, usual)) = WATCHED.iter().find(|(known, _)| *known == number)
                    else {
                        continue;
                    };
                    self.changed.retain(|changed| *changed != number);
                    if (last == b'h') != *usual {
                        self.changed.push(number);
                    }
                }
            }
            (Some(b'>'), b'u') => self.keyboards += 1,
            (Some(b'<'), b'u') => self.keyboards = self.keyboards.saturating_sub(1),
            _ => {}
        }
    }

    /// What sets the terminal back, and leaves the cursor at the start of a line.
    pub(super) fn leave(&self) -> String {
        let mut text = String::new();
        for number in &self.changed {
            let usual = WATCHED
                .iter()
                .any(|(known, usual)| known == number && *usual);
            text.push_str("\x1b[?");
            text.push_str(&number.to_string());
            text.push(if usual { 'h' } else { 'l' });
        }
        if self.keyboards > 0 {
            text.push_str("\x1b[<");
            text.push_str(&self.keyboards.to_string());
            text.push('u');
        }
        // Attributes, keypad, scrolling region (with the cursor kept).
        text.push_str("\x1b[0m\x1b>\x1b7\x1b[r\x1b8\r\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: &str = "\x1b[0m\x1b>\x1b7\x1b[r\x1b8\r\n";

    #[test]
    fn only_what_was_changed_is_set_back() {
        let check = |output: &str, leave: &str| {
            for cut in 0..=output.len() {
                let mut modes = Modes::default();
                modes.see(&output.as_bytes()[..cut]);
                modes.see(&output.as_bytes()[cut..]);
                assert_eq!(modes.leave(), format!("{leave}{ALWAYS}"), "{output:?}");
            }
        };
        check("plain", "");
        check("\x1b[?1049h", "\x1b[?1049l");
        check("\x1b[?1049h\x1b[?1049l", "");
        check(
            "\x1b[?25l\x1b[?1000;1006h",
            "\x1b[?25h\x1b[?1000l\x1b[?1006l",
        );
        check("\x1b[?2004h\x1b[?25h", "\x1b[?2004l");
        check("\x1b[>1u\x1b[>3u", "\x1b[<2u");
        check("\x1b[31m\x1b[?7l", "");
    }
}
