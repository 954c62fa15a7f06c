//! `berth-keeper hook NAME`: an agent's hooks tell what happens. An agent must never suffer for it: whatever goes wrong,
//! this ends soon, and well.

use berth_keeper_protocol::{HOOK_SPOOL_FILE, STATE_VARIABLE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long standard input is read, where nobody ends it.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// More is cut off.
const INPUT_LIMIT: usize = 1 << 20;

pub(crate) fn hook(name: &str) -> ExitCode {
    if let Some(state) = std::env::var_os(STATE_VARIABLE) {
        append(Path::new(&state), &line(name, &read_input(), now())).ok();
    }
    ExitCode::SUCCESS
}

/// One write, so that lines of hooks that run at once do not mix.
fn append(state: &Path, line: &[u8]) -> io::Result<()> {
    let mut spool = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(state.join(HOOK_SPOOL_FILE))?;
    spool.write(line).map(drop)
}

fn line(name: &str, input: &[u8], at: Duration) -> Vec<u8> {
    let text = String::from_utf8_lossy(input);
    let input = match serde_json::from_str::<Value>(&text) {
        Ok(value) => value,
        Err(_) if text.is_empty() => Value::Null,
        Err(_) => Value::String(text.into_owned()),
    };
    let document = json!({"hook": name, "at": rfc3339(at), "input": input});
    let mut line = document.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn read_input() -> Vec<u8> {
    let mut input = Vec::new();
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return input;
    }
    let until = Instant::now() + READ_LIMIT;
    let mut stdin = stdin.lock();
    let mut buffer = vec![0; 64 * 1024];
    while input.len() < INPUT_LIMIT {
        let left = until.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], wait);
        if !matches!(ready, Ok(1..)) {
            break;
        }
        match stdin.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => input.extend_from_slice(&buffer[..count]),
        }
    }
    input.truncate(INPUT_LIMIT);
    input
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// UTC, to the millisecond. Days to dates as in <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        let at = |seconds: u64| rfc3339(Duration::from_millis(seconds * 1000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_795_487_245), "2026-11-24T02:27:25.007Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
    }

    #[test]
    fn a_line_holds_json_as_json_and_the_rest_as_text() {
        let spooled = |input: &[u8]| {
            let line = line("Stop", input, Duration::ZERO);
            assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
            serde_json::from_slice::<Value>(&line).unwrap()["input"].clone()
        };
        assert_eq!(spooled(b"{\"a\":\n1}"), json!({"a": 1}));
        assert_eq!(spooled(b"two\nlines"), json!("two\nlines"));
        assert_eq!(spooled(b""), Value::Null);
        assert_eq!(spooled(b"\xff"), json!("\u{fffd}"));
    }
}
