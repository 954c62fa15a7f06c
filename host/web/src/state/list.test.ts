import { expect, test } from 'vitest';
import type { SessionSummary, StatusEvent } from '../api/types';
import { applyToList, arrange } from './list';

const session = (id: string, fields: Partial<SessionSummary> = {}): SessionSummary => ({
  id,
  name: `name-${id}`,
  title: null,
  backend: 'local',
  agent: 'shell',
  status: 'running',
  activity: 'unknown',
  health: 'Healthy',
  repo_path: '/home/user/project',
  tags: [],
  created_at: '2026-01-01T00:00:00Z',
  updated_at: '2026-01-01T00:00:00Z',
  archived: false,
  ...fields,
});
const list = (...sessions: SessionSummary[]) => new Map(sessions.map((one) => [one.id, one]));
const status = (id: string, fields: Partial<StatusEvent> = {}): StatusEvent => ({
  type: 'session_status',
  session_id: id,
  seq: 2,
  at: '2026-01-02T00:00:00Z',
  status: 'stopped',
  ...fields,
});

test('a status event changes what it tells and keeps the rest', () => {
  const { sessions, missing } = applyToList(
    list(session('a', { activity: 'idle' })),
    status('a', { health: 'Stopped' }),
  );
  expect(sessions.get('a')).toMatchObject({ status: 'stopped', activity: 'idle', health: 'Stopped', name: 'name-a' });
  expect(missing).toBeUndefined();
});

test('an event of an unknown session asks for it', () => {
  expect(applyToList(list(), status('new', { status: 'starting' })).missing).toBe('new');
});

test('a deleted session goes, and is not asked for', () => {
  const gone = { type: 'session_deleted', session_id: 'a', seq: 9, at: '2026-01-02T00:00:00Z' } as const;
  expect(applyToList(list(session('a'), session('b')), gone).sessions).toEqual(list(session('b')));
  expect(applyToList(list(), gone).missing).toBeUndefined();
});

test('who waits for a person stands first, then the newest, archived last', () => {
  const sessions = list(
    session('old'),
    session('archived', { archived: true, status: 'archived', created_at: '2026-03-01T00:00:00Z' }),
    session('new', { created_at: '2026-02-01T00:00:00Z' }),
    session('asking', { activity: 'waiting_approval' }),
  );
  expect(arrange(sessions, '').map(({ id }) => id)).toEqual(['asking', 'new', 'old', 'archived']);
});

test('the filter takes words from anywhere', () => {
  const sessions = list(session('a', { repo_path: '/srv/harbour' }), session('b', { agent: 'claude' }));
  expect(arrange(sessions, 'HARB shell').map(({ id }) => id)).toEqual(['a']);
});
