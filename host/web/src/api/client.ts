import type {
  Config,
  CreateSession,
  Deleted,
  Directory,
  ErrorBody,
  EventPage,
  HealthReport,
  Session,
  SessionSummary,
} from './types';

/** An answer of the server that is not a success, or no answer at all (`code` is then `NO_ANSWER`). */
export class ApiError extends Error {
  override name = 'ApiError';
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status: number) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** The address of a route. Relative to the page, so that it also works behind a proxy's path. */
export function address(path: string, base: string = document.baseURI): URL {
  return new URL(path, base);
}

/** The address of a WebSocket route. */
export function socketAddress(path: string, base: string = document.baseURI): string {
  const url = address(path, base);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  return url.href;
}

async function call<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(address(path), {
      method,
      headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch {
    throw new ApiError('NO_ANSWER', 'The server does not answer.', 0);
  }
  const value: unknown = await response.json().catch(() => undefined);
  if (!response.ok) {
    const error = (value as ErrorBody | undefined)?.error;
    throw new ApiError(
      error?.code ?? 'INTERNAL',
      error?.message ?? `The server answered ${response.status} without saying why.`,
      response.status,
    );
  }
  return value as T;
}

const session = (id: string) => `api/sessions/${encodeURIComponent(id)}`;

export const api = {
  config: () => call<Config>('GET', 'api/config'),
  sessions: async () =>
    (await call<{ sessions: SessionSummary[] }>('GET', 'api/sessions?include_archived=true')).sessions,
  session: (id: string) => call<Session>('GET', session(id)),
  /** `key` makes a repeated request (a double click, a lost answer) give the first one's answer. */
  create: (request: CreateSession, key: string) =>
    call<Session>('POST', 'api/sessions', request, { 'idempotency-key': key }),
  start: (id: string) => call<Session>('POST', `${session(id)}/start`),
  /** What is known of the session's place, and what may be done about it. */
  health: (id: string) => call<HealthReport>('GET', `${session(id)}/health`),
  /** Runs the session anew; its working tree and conversation stay. */
  recreate: (id: string) => call<unknown>('POST', `${session(id)}/recreate`, {}),
  stop: (id: string) => call<Session>('POST', `${session(id)}/stop`),
  delete: (id: string, force: boolean) => call<Deleted>('DELETE', `${session(id)}?force=${force}`),
  events: (id: string, after: number, limit: number) =>
    call<EventPage>('GET', `${session(id)}/events?after=${after}&limit=${limit}`),
  /** Without a path: the folder the server would begin with. */
  browse: (path: string | undefined, showHidden: boolean) =>
    call<Directory>('POST', 'api/browse-directory', { ...(path ? { path } : {}), show_hidden: showHidden }),
};

/** A random key. `crypto.randomUUID` exists only on https and localhost; this works on plain http as well. */
export function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
