import { parseRoute, type Route, routeHash } from './route';

/** What the page as a whole knows: where one is, what time it is, and what there is to be told. */
class PageStore {
  route: Route = $state.raw(parseRoute(location.hash));
  now = $state(Date.now());
  notices: { id: number; text: string; tone: 'good' | 'bad' }[] = $state([]);
  #count = 0;

  constructor() {
    addEventListener('hashchange', () => {
      this.route = parseRoute(location.hash);
    });
    setInterval(() => {
      this.now = Date.now();
    }, 20_000);
  }

  go(route: Route): void {
    location.hash = routeHash(route);
  }

  /** Shows a sentence until it is dismissed; a good one goes by itself. */
  tell(text: string, tone: 'good' | 'bad' = 'good'): void {
    this.#count += 1;
    const id = this.#count;
    this.notices.push({ id, text, tone });
    if (tone === 'good') setTimeout(() => this.dismiss(id), 8_000);
  }

  dismiss(id: number): void {
    this.notices = this.notices.filter((notice) => notice.id !== id);
  }
}

export const page = new PageStore();
