import type { Activity, Health, SessionSummary, Status } from '../api/types';

export type Tone = 'good' | 'busy' | 'attention' | 'bad' | 'quiet';

const STATUS: Record<Status, [string, Tone]> = {
  starting: ['Starting', 'busy'],
  running: ['Running', 'good'],
  stopped: ['Stopped', 'quiet'],
  error: ['Error', 'bad'],
  archived: ['Archived', 'quiet'],
  deleting: ['Deleting', 'busy'],
};

const ACTIVITY: Record<Activity, [string, Tone] | null> = {
  unknown: null,
  working: ['Working', 'busy'],
  waiting_input: ['Needs an answer', 'attention'],
  waiting_approval: ['Needs approval', 'attention'],
  idle: ['Idle', 'quiet'],
};

const HEALTH: Record<Health, string | null> = {
  Healthy: null,
  Pending: null,
  Stopped: null,
  Error: null,
  CrashLoop: 'Keeps failing',
  Missing: 'Gone from its backend; its data is kept',
  DataLost: 'Gone from its backend with its data',
  WorktreeMissing: 'Its working tree is gone; its branch is there',
  Unreachable: 'Its backend does not answer',
};

/** A status in words. One that this page does not know yet is shown as it came. */
export function statusWords(status: Status): { text: string; tone: Tone } {
  const [text, tone] = STATUS[status] ?? [status, 'quiet'];
  return { text, tone };
}

/** What the agent inside is doing, in words; null when that is not known or not of interest. */
export function activityWords(
  session: Pick<SessionSummary, 'status' | 'activity'>,
): { text: string; tone: Tone } | null {
  if (session.status !== 'running') return null;
  const words = ACTIVITY[session.activity];
  return words ? { text: words[0], tone: words[1] } : null;
}

/** What is wrong beyond the status, in words; null when nothing is. */
export function healthWords(health: Health): string | null {
  return HEALTH[health] ?? null;
}

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

/** How long ago, roughly: "5 minutes ago". */
export function ago(time: string, now: number): string {
  const seconds = (now - Date.parse(time)) / 1000;
  if (Number.isNaN(seconds)) return time;
  const format = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) return format.format(-Math.trunc(seconds / size), unit);
  }
  return 'just now';
}

/** The last two parts of a path, which tell repositories apart. */
export function shortPath(path: string): string {
  const parts = path.split('/').filter(Boolean);
  return parts.length <= 2 ? path : `…/${parts.slice(-2).join('/')}`;
}

/** One line that says what a tool was asked for. */
export function toolSummary(input: unknown): string {
  if (input === null || typeof input !== 'object') return input === undefined ? '' : String(input);
  const values = input as Record<string, unknown>;
  for (const key of ['command', 'file_path', 'path', 'pattern', 'query', 'url', 'description', 'prompt']) {
    const value = values[key];
    if (typeof value === 'string' && value) return value.split('\n')[0] ?? '';
    if (Array.isArray(value) && value.every((part) => typeof part === 'string')) return value.join(' ');
  }
  const text = JSON.stringify(input);
  return text === '{}' ? '' : text;
}

/** Any value as text to read. */
export function readable(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2);
}
