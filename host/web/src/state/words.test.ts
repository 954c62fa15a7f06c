import { expect, test } from 'vitest';
import type { Status } from '../api/types';
import { activityWords, ago, shortPath, statusWords, toolSummary } from './words';

test('a status this page does not know is shown as it came', () => {
  expect(statusWords('dreaming' as Status)).toEqual({ text: 'dreaming', tone: 'quiet' });
});

test('activity is of interest only while the session runs', () => {
  expect(activityWords({ status: 'running', activity: 'waiting_input' })?.tone).toBe('attention');
  expect(activityWords({ status: 'stopped', activity: 'working' })).toBeNull();
});

test('times are told roughly', () => {
  const now = Date.parse('2026-01-02T12:00:00Z');
  expect(ago('2026-01-02T11:59:40Z', now)).toBe('just now');
  expect(ago('2026-01-02T11:55:00Z', now)).toBe('5 minutes ago');
  expect(ago('2026-01-01T11:00:00Z', now)).toBe('yesterday');
  expect(ago('not a time', now)).toBe('not a time');
});

test('paths and tool inputs are cut to what tells them apart', () => {
  expect(shortPath('/home/you/work/project')).toBe('…/work/project');
  expect(shortPath('/srv/x')).toBe('/srv/x');
  expect(toolSummary({ command: 'ls -l\nrm x' })).toBe('ls -l');
  expect(toolSummary({ command: ['git', 'status'] })).toBe('git status');
  expect(toolSummary({})).toBe('');
  expect(toolSummary({ other: 1 })).toBe('{"other":1}');
});
