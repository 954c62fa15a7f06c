//! The newest bytes of output, numbered.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io;

/// Memory is taken in pieces of this size, as output comes.
const SEGMENT: usize = 64 * 1024;

/// Keeps at least the newest `limit` bytes.
#[derive(Debug)]
pub(crate) struct Ring {
    limit: u64,
    /// Full ones, but for the last.
    segments: VecDeque<Box<[u8]>>,
    /// How much of the last segment is filled.
    filled: usize,
    /// The number of the first segment's first byte.
    first: u64,
    /// One past the newest byte.
    next: u64,
}

impl Ring {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            segments: VecDeque::new(),
            filled: 0,
            first: 0,
            next: 0,
        }
    }

    /// The oldest byte that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// One past the newest byte.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Goes on at `offset`: what was kept stays where it ends there, else it is forgotten.
    pub(crate) fn go_on_at(&mut self, offset: u64) {
        if offset != self.next {
            self.segments.clear();
            self.filled = 0;
            self.first = offset;
            self.next = offset;
        }
    }

    /// Appends what `read` puts into the room that it is given; answers how much that was.
    pub(crate) fn append_with(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.segments.is_empty() || self.filled == SEGMENT {
            let fresh = self.recycle();
            self.segments.push_back(fresh);
            self.filled = 0;
        }
        let Some(segment) = self.segments.back_mut() else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let count = read(&mut segment[self.filled..])?;
        self.filled += count;
        self.next += count as u64;
        Ok(count)
    }

    /// A segment to fill: the oldest, where what remains without it is enough.
    fn recycle(&mut self) -> Box<[u8]> {
        if self.next - self.first >= self.limit + SEGMENT as u64
            && let Some(segment) = self.segments.pop_front()
        {
            self.first += SEGMENT as u64;
            return segment;
        }
        vec![0; SEGMENT].into_boxed_slice()
    }

    /// A copy of up to `limit` bytes from `offset` on, as far as they lie together; empty when there are none there.
    pub(crate) fn read(&self, offset: u64, limit: usize) -> Bytes {
        if offset < self.first || offset >= self.next {
            return Bytes::new();
        }
        let distance = usize::try_from(offset - self.first).unwrap_or(usize::MAX);
        let index = distance / SEGMENT;
        let Some(segment) = self.segments.get(index) else {
            return Bytes::new();
        };
        let end = if index + 1 == self.segments.len() {
            self.filled
        } else {
            SEGMENT
        };
        let rest = &segment[distance % SEGMENT..end];
        Bytes::copy_from_slice(&rest[..rest.len().min(limit)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(ring: &mut Ring, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = ring
                .append_with(|room| io::Read::read(&mut bytes, room))
                .unwrap();
            assert!(count > 0);
        }
    }

    fn all(ring: &Ring) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            let piece = ring.read(ring.first() + whole.len() as u64, 1000);
            if piece.is_empty() {
                return whole;
            }
            whole.extend_from_slice(&piece);
        }
    }

    fn byte_at(offset: u64) -> u8 {
        u8::try_from(offset % 251).unwrap()
    }

    #[test]
    fn what_is_kept_is_the_newest_and_never_less_than_the_limit() {
        let limit = 200_000;
        let mut ring = Ring::new(limit);
        let stream: Vec<u8> = (0..1_000_000).map(byte_at).collect();
        for piece in stream.chunks(7_919) {
            append(&mut ring, piece);
            let kept = ring.next() - ring.first();
            assert!(kept >= limit.min(ring.next()));
            assert!(kept <= limit + 2 * SEGMENT as u64);
        }
        let first = usize::try_from(ring.first()).unwrap();
        assert!(all(&ring) == stream[first..]);
    }

    #[test]
    fn a_failed_read_appends_nothing() {
        let mut ring = Ring::new(100);
        append(&mut ring, b"abc");
        assert!(
            ring.append_with(|_| Err(io::ErrorKind::WouldBlock.into()))
                .is_err()
        );
        append(&mut ring, b"d");
        assert_eq!(all(&ring), b"abcd");
    }

    #[test]
    fn a_new_run_goes_on_where_the_last_one_ended_or_starts_afresh() {
        let mut ring = Ring::new(100);
        ring.go_on_at(10);
        append(&mut ring, b"abc");
        ring.go_on_at(13);
        append(&mut ring, b"def");
        assert_eq!((ring.first(), all(&ring)), (10, b"abcdef".to_vec()));
        ring.go_on_at(1000);
        append(&mut ring, b"x");
        assert_eq!(
            (ring.first(), ring.next(), all(&ring)),
            (1000, 1001, b"x".to_vec())
        );
        assert!(ring.read(999, 10).is_empty());
        assert!(ring.read(1001, 10).is_empty());
    }
}
