import type { SessionEvent } from '../api/types';

/** The events of one session that the page holds: in order of `seq`, without gap or repeat. */
export interface Feed {
  readonly events: readonly SessionEvent[];
  /** The newest `seq` that was seen; where a new subscription resumes. Null before the first answer. */
  readonly last: number | null;
}

export const emptyFeed: Feed = { events: [], last: null };

/** How many events the page holds; older ones are fetched again on request. */
export const FEED_LIMIT = 5_000;

/** Takes in events from anywhere: live, replayed or fetched; repeats and disorder are put right. */
export function addEvents(feed: Feed, added: readonly SessionEvent[]): Feed {
  if (added.length === 0) return feed;
  const newest = added.reduce((most, event) => Math.max(most, event.seq), 0);
  const last = Math.max(feed.last ?? 0, newest);
  const only = added.length === 1 ? added[0] : undefined;
  const end = feed.events.at(-1)?.seq ?? 0;
  if (only && only.seq > end) return { events: trim([...feed.events, only]), last };
  const bySeq = new Map(feed.events.map((event) => [event.seq, event]));
  for (const event of added) bySeq.set(event.seq, event);
  return { events: [...bySeq.values()].sort((a, b) => a.seq - b.seq), last };
}

function trim(events: SessionEvent[]): SessionEvent[] {
  return events.length > FEED_LIMIT ? events.slice(-FEED_LIMIT) : events;
}

/** The `after` for the page of at most `count` events that stands before `seq`; null when there is none. */
export function pageBefore(seq: number, count: number): { after: number; limit: number } | null {
  if (seq <= 1) return null;
  const after = Math.max(0, seq - 1 - count);
  return { after, limit: seq - 1 - after };
}
