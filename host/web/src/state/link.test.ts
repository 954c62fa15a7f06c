import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FakeSocket } from './fake-socket';
import { Link, type LinkOptions, type LinkState } from './link';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function start(options: Partial<LinkOptions> = {}) {
  const sockets: FakeSocket[] = [];
  const states: LinkState['phase'][] = [];
  const messages: unknown[] = [];
  const link = new Link({
    address: () => `ws://test/${sockets.length}`,
    onMessage: (data) => messages.push(data),
    onState: (state) => states.push(state.phase),
    connect: (address) => {
      const socket = new FakeSocket(address);
      sockets.push(socket);
      return socket;
    },
    ...options,
  }).open();
  const newest = () => sockets.at(-1) as FakeSocket;
  return { link, sockets, states, messages, newest };
}

test('connects, tells its state, passes messages', () => {
  const { states, messages, newest } = start();
  newest().accept();
  newest().receive('hello');
  expect(states).toEqual(['connecting', 'open']);
  expect(messages).toEqual(['hello']);
});

test('comes back after a loss, asking anew for the address', () => {
  const { sockets, states, newest } = start();
  newest().accept();
  newest().drop();
  expect(states.at(-1)).toBe('waiting');
  vi.advanceTimersByTime(1_000);
  expect(sockets).toHaveLength(2);
  expect(newest().address).toBe('ws://test/1');
});

test('waits longer each time, until a message shows that the other side works', () => {
  const { link, newest } = start();
  const attempts = () => (link.state.phase === 'waiting' ? link.state.attempt : null);
  newest().drop();
  expect(attempts()).toBe(1);
  link.retry();
  newest().accept();
  newest().drop();
  expect(attempts()).toBeGreaterThan(1);
  link.retry();
  newest().accept();
  newest().receive('hello');
  newest().drop();
  expect(attempts()).toBe(1);
});

test('a person can cut the wait short', () => {
  const { link, sockets, newest } = start();
  newest().drop();
  link.retry();
  expect(sockets).toHaveLength(2);
  link.retry();
  expect(sockets).toHaveLength(2);
});

test('an attempt that nobody answers counts as lost', () => {
  const { states } = start();
  vi.advanceTimersByTime(10_001);
  expect(states.at(-1)).toBe('waiting');
});

test('a silent connection is asked, and given up when it does not answer', () => {
  const { states, newest } = start({ keepAlive: { message: 'ping', silence: 1_000 } });
  newest().accept();
  vi.advanceTimersByTime(1_000);
  expect(newest().sent).toEqual(['ping']);
  newest().receive('pong');
  vi.advanceTimersByTime(1_999);
  expect(states.at(-1)).toBe('open');
  vi.advanceTimersByTime(1);
  expect(states.at(-1)).toBe('waiting');
});

test('closed is closed: what comes late changes nothing', () => {
  const { link, sockets, states, newest } = start();
  newest().accept();
  const old = newest();
  link.close();
  old.drop();
  link.retry();
  link.renew();
  vi.advanceTimersByTime(60_000);
  expect(sockets).toHaveLength(1);
  expect(states.at(-1)).toBe('closed');
});

test('what is sent while nothing is connected is not kept', () => {
  const { link, newest } = start();
  expect(link.send('lost')).toBe(false);
  newest().accept();
  expect(link.send('kept')).toBe(true);
  expect(newest().sent).toEqual(['kept']);
});
