// A client of berth in one file: copy it and make it yours. It needs `fetch` and a WebSocket; the `ws` package gives the
// latter to Node.js before 22.
import WebSocket from 'ws';

export interface Session {
  id: string;
  name: string;
  status: 'starting' | 'running' | 'stopped' | 'error' | 'archived' | 'deleting';
  status_message: string | null;
  repositories: { path: string; branch: string | null; worktree_path: string | null }[];
}

export interface CreateSession {
  repo_path: string;
  prompt: string;
  agent?: string;
  backend?: string;
  name?: string;
  base_branch?: string;
}

export type SessionEvent = { session_id: string; seq: number; at: string } & (
  | { type: 'session_status'; status: Session['status']; activity?: string; health?: string }
  | { type: 'chat_message'; message: { role: string; content: string } }
  | { type: 'tool_call'; tool: { id: string; name: string; input: unknown } }
  | { type: 'tool_result'; tool: { id: string; name: string; output: unknown; is_error: boolean } }
  | { type: 'session_deleted' }
);

/** What the server refused. `code` is stable, `message` is for people. */
export class BerthError extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, message: string, status: number) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export class Berth {
  readonly #url: string;

  constructor(url = 'http://localhost:3030') {
    this.#url = url.replace(/\/$/, '');
  }

  create = (request: CreateSession) => this.#call<Session>('POST', '/api/sessions', request);
  session = (id: string) => this.#call<Session>('GET', `/api/sessions/${encodeURIComponent(id)}`);
  delete = (id: string, force = false) =>
    this.#call<{ success: boolean; rescued?: string[] }>(
      'DELETE',
      `/api/sessions/${encodeURIComponent(id)}?force=${force}`,
    );

  async #call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(this.#url + path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const value = (await response.json()) as T & { error?: { code: string; message: string } };
    if (!response.ok)
      throw new BerthError(value.error?.code ?? 'INTERNAL', value.error?.message ?? 'no reason given', response.status);
    return value;
  }

  /**
   * The session's events from `after` on, live, without gap or repeat: a lost connection is made again, and resumes after
   * the last event that was seen. Ends when the session is deleted, or the signal aborts it.
   */
  async *events(session: string, after = 0, signal?: AbortSignal): AsyncGenerator<SessionEvent> {
    for (let wait = 250; !signal?.aborted; wait = Math.min(wait * 2, 10_000)) {
      const messages = socketMessages(
        `${this.#url.replace(/^http/, 'ws')}/ws/events`,
        { type: 'subscribe', session_id: session, after },
        signal,
      );
      for await (const message of messages) {
        wait = 250;
        if (message.type === 'error') throw new BerthError(message.code, message.message, 0);
        if (!('seq' in message && 'at' in message)) continue;
        after = message.seq;
        yield message;
        if (message.type === 'session_deleted') return;
      }
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  /** Joins the session's terminal. `onBytes` gets the screen and history so far, then everything as it comes. */
  async console(
    session: string,
    onBytes: (bytes: Uint8Array) => void,
    size = { cols: 80, rows: 24 },
  ): Promise<Console> {
    const query = `control=1&cols=${size.cols}&rows=${size.rows}`;
    const socket = new WebSocket(
      `${this.#url.replace(/^http/, 'ws')}/ws/console/${encodeURIComponent(session)}?${query}`,
    );
    socket.binaryType = 'arraybuffer';
    await new Promise<void>((done, fail) => {
      socket.onopen = () => done();
      socket.onerror = (event) => fail(new Error(event.message));
    });
    return new Console(socket, onBytes);
  }
}

/** One client of a session's terminal. Leaving it does not end the program. */
export class Console {
  /** The program's exit code, once it has ended. */
  readonly exited: Promise<number>;
  readonly #socket: WebSocket;

  constructor(socket: WebSocket, onBytes: (bytes: Uint8Array) => void) {
    this.#socket = socket;
    this.exited = new Promise((done, fail) => {
      socket.onmessage = ({ data }) => {
        // Binary frames are the terminal's bytes; text frames are control, as JSON.
        if (data instanceof ArrayBuffer) return onBytes(new Uint8Array(data));
        const message = JSON.parse(String(data)) as { type: string; code?: number; message?: string };
        if (message.type === 'exit') done(message.code ?? 0);
        else if (message.type === 'error') fail(new Error(message.message));
      };
      socket.onclose = () => fail(new Error('the connection was lost'));
    });
    this.exited.catch(() => {}); // Who does not ask for the code need not hear of it.
  }

  type(text: string): void {
    this.#socket.send(new TextEncoder().encode(text));
  }

  resize(cols: number, rows: number): void {
    this.#socket.send(JSON.stringify({ type: 'resize', cols, rows }));
  }

  leave(): void {
    this.#socket.close();
  }
}

type Message = SessionEvent | { type: 'subscribed' | 'pong' } | { type: 'error'; code: string; message: string };

/** The messages of one connection, until it is lost. */
async function* socketMessages(url: string, first: unknown, signal?: AbortSignal): AsyncGenerator<Message> {
  const socket = new WebSocket(url);
  const queue: Message[] = [];
  let open = true;
  let wake = () => {};
  socket.onopen = () => socket.send(JSON.stringify(first));
  socket.onmessage = ({ data }) => {
    queue.push(JSON.parse(String(data)) as Message);
    wake();
  };
  const close = () => {
    open = false;
    wake();
  };
  socket.onclose = close;
  socket.onerror = close;
  signal?.addEventListener('abort', close, { once: true });
  try {
    for (;;) {
      const message = queue.shift();
      if (message) yield message;
      else if (open) await new Promise<void>((done) => (wake = done));
      else return;
    }
  } finally {
    signal?.removeEventListener('abort', close);
    socket.close();
  }
}
