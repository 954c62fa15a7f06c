import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Console, type ConsoleOptions, consoleAddress } from './console';
import { FakeSocket } from './fake-socket';

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('document', { baseURI: 'http://host:3030/' });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const bytes = (text: string) => new TextEncoder().encode(text);

function start(options: Partial<ConsoleOptions> = {}) {
  const sockets: FakeSocket[] = [];
  const log: string[] = [];
  const terminal = new Console({
    session: 's1',
    sink: {
      write: (data, done) => {
        log.push(new TextDecoder().decode(data));
        done();
      },
      reset: () => log.push('RESET'),
    },
    size: () => ({ cols: 100, rows: 30 }),
    onState: () => {},
    onExit: (exit) => log.push(`EXIT ${exit?.code}`),
    onResize: (size) => log.push(`SIZE ${size.cols}x${size.rows}`),
    onError: (message) => log.push(`ERROR ${message}`),
    onBehind: (behind) => log.push(`BEHIND ${behind}`),
    connect: (address) => {
      const socket = new FakeSocket(address);
      sockets.push(socket);
      return socket;
    },
    ...options,
  }).open();
  const newest = () => sockets.at(-1) as FakeSocket;
  const typed = () => newest().sent.map((data) => (typeof data === 'string' ? data : new TextDecoder().decode(data)));
  return { terminal, sockets, log, newest, typed };
}

test('the address says who joins, with which size and how', () => {
  const size = { cols: 120, rows: 40 };
  expect(consoleAddress('a/b', size, false, 'http://host:3030/')).toBe(
    'ws://host:3030/ws/console/a%2Fb?control=1&cols=120&rows=40',
  );
  expect(consoleAddress('s', size, true, 'https://host/berth/')).toBe(
    'wss://host/berth/ws/console/s?control=1&cols=120&rows=40&mode=read',
  );
});

test('keys go out as bytes, sizes as control', () => {
  const { terminal, newest, typed } = start();
  newest().accept();
  terminal.input('é');
  terminal.resize({ cols: 90, rows: 20 });
  expect(newest().sent[0]).toBeInstanceOf(Uint8Array);
  expect(typed()).toEqual(['é', '{"type":"resize","cols":90,"rows":20}']);
});

test('read-only sends nothing', () => {
  const { terminal, newest } = start({ readOnly: true });
  newest().accept();
  terminal.input('x');
  terminal.inputBytes('x');
  terminal.resize({ cols: 90, rows: 20 });
  expect(newest().sent).toEqual([]);
});

test('joining again replaces the screen, and not before there is a new one', () => {
  const { log, newest } = start();
  newest().accept();
  newest().receive(bytes('one'));
  newest().drop();
  vi.advanceTimersByTime(2_000);
  newest().accept();
  expect(log).toEqual(['RESET', 'one']);
  newest().receive(bytes('one two'));
  newest().receive(bytes(' three'));
  expect(log).toEqual(['RESET', 'one', 'RESET', 'one two', ' three']);
});

test('keys typed without a connection are not executed later', () => {
  const { terminal, newest, typed } = start();
  newest().accept();
  newest().drop();
  terminal.input('rm -rf x\r');
  vi.advanceTimersByTime(2_000);
  newest().accept();
  expect(typed()).toEqual([]);
});

test('control messages are told; an end is taken back when the program runs again', () => {
  const { log, newest } = start();
  newest().accept();
  newest().receive({ type: 'resize', cols: 80, rows: 24 });
  newest().receive({ type: 'exit', code: 3 });
  newest().receive({ type: 'something', new: true });
  newest().receive(bytes('last screen'));
  newest().receive({ type: 'replay_end' });
  newest().receive(bytes('$ '));
  expect(log).toEqual(['SIZE 80x24', 'EXIT 3', 'RESET', 'last screen', '$ ', 'EXIT undefined']);
});

test('an unknown session is not asked for again', () => {
  const { sockets, log, newest } = start();
  newest().accept();
  newest().receive({ type: 'error', message: 'Session not found' });
  newest().drop();
  vi.advanceTimersByTime(60_000);
  expect(log).toEqual(['ERROR Session not found']);
  expect(sockets).toHaveLength(1);
});

test('a terminal far behind drops old output and fetches the screen anew once it is calm', () => {
  const held: (() => void)[] = [];
  const { terminal, sockets, log, newest, typed } = start({
    sink: { write: (_, done) => held.push(done), reset: () => log.push('RESET') },
  });
  newest().accept();
  const megabyte = new Uint8Array(1024 * 1024);
  for (let count = 0; count < 12; count += 1) newest().receive(megabyte.slice());
  expect(log).toContain('BEHIND true');
  terminal.input('\x03');
  expect(typed()).toEqual(['\x03']);
  newest().receive(megabyte.slice());
  expect(sockets).toHaveLength(1);
  vi.advanceTimersByTime(150);
  expect(sockets).toHaveLength(2);
  terminal.input('l');
  newest().accept();
  expect(typed()).toEqual(['l']);
  newest().receive(bytes('$ '));
  for (const done of held.splice(0)) done();
  expect(log.at(-1)).toBe('RESET');
  expect(held).toHaveLength(1);
});
