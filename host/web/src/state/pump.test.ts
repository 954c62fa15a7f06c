import { expect, test } from 'vitest';
import { Pump, type Sink } from './pump';

const bytes = (text: string) => new TextEncoder().encode(text);

/** A terminal that takes bytes in only when told to. */
class SlowSink implements Sink {
  log: string[] = [];
  open: (() => void)[] = [];
  write(data: Uint8Array, done: () => void): void {
    this.log.push(new TextDecoder().decode(data));
    this.open.push(done);
  }
  reset(): void {
    this.log.push('RESET');
  }
  finish(): void {
    this.open.shift()?.();
  }
}

test('gives the sink no more than it may be busy with', () => {
  const sink = new SlowSink();
  const pump = new Pump(sink, { inFlight: 4 });
  for (const part of ['ab', 'cd', 'ef', 'gh']) pump.push(bytes(part));
  expect(sink.log).toEqual(['ab', 'cd']);
  sink.finish();
  expect(sink.log).toEqual(['ab', 'cd', 'ef']);
  sink.finish();
  sink.finish();
  expect(sink.log).toEqual(['ab', 'cd', 'ef', 'gh']);
});

test('far behind, it drops what waits and says so once', () => {
  const sink = new SlowSink();
  let overflows = 0;
  const pump = new Pump(sink, {
    inFlight: 1,
    limit: 4,
    onOverflow: () => {
      overflows += 1;
    },
  });
  for (const part of ['a', 'bcd', 'ef', 'gh', 'ij']) pump.push(bytes(part));
  expect(overflows).toBe(1);
  expect(pump.dropping).toBe(true);
  sink.finish();
  expect(sink.log).toEqual(['a']);
});

test('starting over keeps the old screen until new bytes are there, and the reset stands before them', () => {
  const sink = new SlowSink();
  const pump = new Pump(sink, { inFlight: 2 });
  pump.push(bytes('old'));
  pump.push(bytes('never shown'));
  pump.startOver();
  pump.push(bytes('new'));
  expect(sink.log).toEqual(['old']);
  sink.finish();
  expect(sink.log).toEqual(['old', 'RESET', 'new']);
});

test('starting over with nothing to show leaves the terminal as it is', () => {
  const sink = new SlowSink();
  const pump = new Pump(sink);
  pump.startOver();
  pump.push(new Uint8Array());
  expect(sink.log).toEqual([]);
});
