import { expect, test } from 'vitest';
import type { SessionEvent } from '../api/types';
import { addEvents, emptyFeed, FEED_LIMIT, pageBefore } from './feed';

const event = (seq: number): SessionEvent => ({
  type: 'chat_message',
  session_id: 's',
  seq,
  at: '2026-01-01T00:00:00Z',
  message: { role: 'user', content: String(seq) },
});
const seqs = (...of: number[]) => of.map(event);

test('keeps order whatever the order of arrival, without repeats', () => {
  let feed = addEvents(emptyFeed, [event(5)]);
  feed = addEvents(feed, [event(6)]);
  feed = addEvents(feed, seqs(3, 4, 5));
  feed = addEvents(feed, [event(6)]);
  feed = addEvents(feed, [event(2)]);
  expect(feed.events.map(({ seq }) => seq)).toEqual([2, 3, 4, 5, 6]);
  expect(feed.last).toBe(6);
});

test('older events do not move the place to resume at', () => {
  const feed = addEvents({ events: [], last: 41 }, seqs(1, 2));
  expect(feed.last).toBe(41);
});

test('live events push the oldest out beyond the limit', () => {
  let feed = addEvents(
    emptyFeed,
    Array.from({ length: FEED_LIMIT }, (_, index) => event(index + 1)),
  );
  feed = addEvents(feed, [event(FEED_LIMIT + 1)]);
  expect(feed.events).toHaveLength(FEED_LIMIT);
  expect(feed.events[0]?.seq).toBe(2);
});

test('the page before an event reaches back to the first and no further', () => {
  expect(pageBefore(501, 200)).toEqual({ after: 300, limit: 200 });
  expect(pageBefore(11, 200)).toEqual({ after: 0, limit: 10 });
  expect(pageBefore(1, 200)).toBeNull();
});
