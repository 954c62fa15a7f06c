import { expect, test } from 'vitest';
import { backoff } from './backoff';

test('waits double from attempt to attempt, up to a cap', () => {
  const waits = [0, 1, 2, 3, 4, 5, 6, 100].map((attempt) => backoff(attempt, () => 0.5));
  expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
});

test('spreads clients by a quarter either way', () => {
  expect(backoff(1, () => 0)).toBe(750);
  expect(backoff(1, () => 1)).toBe(1_250);
});
