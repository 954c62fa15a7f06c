//! How much may be on its way to one client: pings after each piece, answered when the client has read so far.
//!
//! What a server hands to a socket is gone from its sight: megabytes of socket buffers lie between it and a client that
//! reads slowly, and a Ctrl-C takes effect on the screen only behind them. A pong comes when the client has read all that
//! was sent before its ping, so the unanswered bytes are what is on the way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A ping follows when so many bytes were sent since the last.
pub(super) const PING_EACH: u64 = 32 * 1024;
/// The most bytes without answer, on a near network.
pub(super) const WINDOW: u64 = 128 * 1024;
/// The most bytes without answer, on any.
pub(super) const MAX_WINDOW: u64 = 1024 * 1024;
/// What a client far away should still reach.
const TARGET_BYTES_PER_SECOND: u128 = 20_000_000;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Credit {
    sent: u64,
    answered: u64,
    pinged: u64,
    window: u64,
    pings: VecDeque<(u64, Instant)>,
    shortest: Option<Duration>,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            sent: 0,
            answered: 0,
            pinged: 0,
            window: WINDOW,
            pings: VecDeque::new(),
            shortest: None,
        }
    }
}

impl Credit {
    /// How much may be sent now.
    pub(super) fn room(&self) -> u64 {
        (self.answered + self.window).saturating_sub(self.sent)
    }

    /// So many bytes are being sent; with an answer, a ping with these bytes must follow them.
    pub(super) fn spend(&mut self, count: usize, now: Instant) -> Option<[u8; 8]> {
        let first = self.sent == 0;
        self.sent += count as u64;
        if !first && self.sent - self.pinged < PING_EACH {
            return None;
        }
        self.pinged = self.sent;
        self.pings.push_back((self.sent, now));
        Some(self.sent.to_be_bytes())
    }

    /// A pong came. Answers whether anything became known by it; what is no answer to a ping of ours changes nothing.
    pub(super) fn answer(&mut self, payload: &[u8], now: Instant) -> bool {
        let Ok(bytes) = <[u8; 8]>::try_from(payload) else {
            return false;
        };
        let offset = u64::from_be_bytes(bytes);
        let Some(index) = self.pings.iter().position(|(sent, _)| *sent == offset) else {
            return false;
        };
        // A client may answer only the newest of several pings.
        let Some((_, at)) = self.pings.drain(..=index).next_back() else {
            return false;
        };
        self.answered = offset;
        let taken = now.saturating_duration_since(at);
        let shortest = self.shortest.map_or(taken, |shortest| shortest.min(taken));
        self.shortest = Some(shortest);
        let wanted = shortest.as_micros() * TARGET_BYTES_PER_SECOND / 1_000_000;
        self.window = u64::try_from(wanted)
            .unwrap_or(MAX_WINDOW)
            .clamp(WINDOW, MAX_WINDOW);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pings_follow_pieces_and_their_answers_give_room() {
        let now = Instant::now();
        let mut credit = Credit::default();
        let first = credit
            .spend(10, now)
            .expect("the first piece is pinged at once");
        assert!(credit.spend(1000, now).is_none());
        let second = credit.spend(40_000, now).expect("32 KiB are full");
        assert_eq!(credit.room(), WINDOW - 41_010);
        assert!(!credit.answer(b"other", now));
        assert!(!credit.answer(&77u64.to_be_bytes(), now));
        assert!(credit.answer(&second, now + Duration::from_micros(300)));
        assert_eq!(credit.room(), WINDOW);
        assert!(!credit.answer(&first, now), "answered by a later one");
    }

    #[test]
    fn the_window_grows_with_the_way() {
        let check = |way: Duration, window: u64| {
            let now = Instant::now();
            let mut credit = Credit::default();
            let ping = credit.spend(1, now).unwrap();
            credit.answer(&ping, now + way);
            assert_eq!(credit.window, window, "{way:?}");
        };
        check(Duration::from_micros(200), WINDOW);
        check(Duration::from_millis(10), 200_000);
        check(Duration::from_secs(1), MAX_WINDOW);
    }

    proptest! {
        #[test]
        fn no_more_than_the_window_is_unanswered(pieces in prop::collection::vec(1usize..40_000, 1..100)) {
            let now = Instant::now();
            let mut credit = Credit::default();
            let mut pings = VecDeque::new();
            for piece in pieces {
                if credit.room() == 0 {
                    let ping: [u8; 8] = pings.pop_front().expect("a full window has a ping to wait for");
                    prop_assert!(credit.answer(&ping, now));
                    continue;
                }
                let piece = piece.min(usize::try_from(credit.room()).unwrap());
                pings.extend(credit.spend(piece, now));
                prop_assert!(credit.sent - credit.answered <= WINDOW);
            }
        }
    }
}
