/** Where in the page one is. Kept in the address after `#`, so that a link to a session works without the server's help. */
export type Route = { view: 'home' } | { view: 'new' } | { view: 'session'; id: string };

export function parseRoute(hash: string): Route {
  const [first, second] = hash.replace(/^#?\/?/, '').split('/');
  if (first === 'new') return { view: 'new' };
  if (first === 'sessions' && second) {
    try {
      return { view: 'session', id: decodeURIComponent(second) };
    } catch {
      return { view: 'home' };
    }
  }
  return { view: 'home' };
}

export function routeHash(route: Route): string {
  if (route.view === 'new') return '#/new';
  if (route.view === 'session') return `#/sessions/${encodeURIComponent(route.id)}`;
  return '#/';
}
