import { expect, test } from 'vitest';
import { parseRoute, type Route, routeHash } from './route';

test.each<[string, Route]>([
  ['', { view: 'home' }],
  ['#/', { view: 'home' }],
  ['#/new', { view: 'new' }],
  ['#/sessions/fix-login', { view: 'session', id: 'fix-login' }],
  ['#/sessions/', { view: 'home' }],
  ['#/sessions/%E0%A4%A', { view: 'home' }],
  ['#/elsewhere', { view: 'home' }],
])('%s', (hash, route) => {
  expect(parseRoute(hash)).toEqual(route);
});

test('an address leads back to its view', () => {
  const route: Route = { view: 'session', id: 'a/b c' };
  expect(parseRoute(routeHash(route))).toEqual(route);
});
