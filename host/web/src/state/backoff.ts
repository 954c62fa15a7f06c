/** How long to wait before attempt `attempt` (from 0) of connecting again, in milliseconds: doubling, capped, jittered. */
export function backoff(attempt: number, random: () => number = Math.random): number {
  const full = Math.min(15_000, 500 * 2 ** Math.min(attempt, 10));
  return Math.round(full * (0.75 + random() * 0.5));
}
