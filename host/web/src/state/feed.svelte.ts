import { api, socketAddress } from '../api/client';
import type { EventsMessage } from '../api/types';
import { addEvents, emptyFeed, type Feed, pageBefore } from './feed';
import { Link, type LinkState } from './link';

/** How many events are read at once when a session is opened, and each time earlier ones are asked for. */
const PAGE = 200;

/** The events of one session, live, with earlier ones on request. */
export class FeedStore {
  feed: Feed = $state.raw(emptyFeed);
  link: LinkState = $state.raw({ phase: 'connecting', attempt: 0 });
  loading = $state(true);
  error: string | null = $state(null);
  readonly #session: string;
  readonly #link: Link;
  #sent = 0;
  #answers = new Map<string, (error: string | null) => void>();

  constructor(session: string) {
    this.#session = session;
    this.#link = new Link({
      address: () => socketAddress('ws/events'),
      keepAlive: { message: JSON.stringify({ type: 'ping' }), silence: 20_000 },
      onOpen: () => this.#subscribe(),
      onMessage: (data) => {
        if (typeof data === 'string') this.#receive(JSON.parse(data) as EventsMessage);
      },
      onState: (state) => {
        this.link = state;
        if (state.phase !== 'open')
          this.#settleAll('The connection was lost; whether the message arrived shows in the events.');
      },
    }).open();
  }

  get hasEarlier(): boolean {
    return (this.feed.events[0]?.seq ?? 1) > 1;
  }

  loadEarlier = async (): Promise<void> => {
    await this.#loadBefore(this.feed.events[0]?.seq ?? 1);
  };

  /** Sends a message to the agent; resolves once the server has taken it, to what it refuses otherwise. */
  send(content: string): Promise<string | null> {
    this.#sent += 1;
    const id = `m${this.#sent}`;
    return new Promise((resolve) => {
      this.#answers.set(id, resolve);
      const message = JSON.stringify({ type: 'send_message', session_id: this.#session, id, content });
      if (!this.#link.send(message)) this.#settle(id, 'The server does not answer.');
    });
  }

  retry = (): void => this.#link.retry();

  close(): void {
    this.#link.close();
  }

  #subscribe(): void {
    const after = this.feed.last;
    this.#link.send(
      JSON.stringify({ type: 'subscribe', session_id: this.#session, ...(after === null ? {} : { after }) }),
    );
  }

  #receive(message: EventsMessage): void {
    if (message.type === 'subscribed') void this.#subscribed(message.seq ?? 0);
    else if (message.type === 'message_accepted') this.#settle(message.id, null);
    else if (message.type === 'error') this.#refused(message.code, message.message, message.id);
    else if ('seq' in message && 'at' in message) this.feed = addEvents(this.feed, [message]);
  }

  async #subscribed(newest: number): Promise<void> {
    this.error = null;
    if (this.feed.last === null) {
      this.feed = { ...this.feed, last: newest };
      await this.#loadBefore(newest + 1);
    }
    this.loading = false;
  }

  async #loadBefore(seq: number): Promise<void> {
    const page = pageBefore(seq, PAGE);
    if (!page) return;
    try {
      this.feed = addEvents(this.feed, (await api.events(this.#session, page.after, page.limit)).events);
    } catch (error) {
      this.error = error instanceof Error ? error.message : String(error);
    }
  }

  #refused(code: string, message: string, id: string | undefined): void {
    if (id !== undefined || this.#answers.size > 0) {
      // An error that does not repeat an id is about the oldest message still open: answers come in order.
      this.#settle(id ?? this.#answers.keys().next().value, message);
    } else if (code === 'INVALID_REQUEST' && this.feed.last !== null) {
      // The place to resume at is beyond the newest: the server's data has been put back. Begin again.
      this.feed = emptyFeed;
      this.#subscribe();
    } else {
      this.error = message;
      this.loading = false;
      if (code === 'SESSION_NOT_FOUND') this.#link.close(message);
    }
  }

  #settle(id: string | undefined, error: string | null): void {
    if (id === undefined) return;
    this.#answers.get(id)?.(error);
    this.#answers.delete(id);
  }

  #settleAll(error: string): void {
    for (const id of [...this.#answers.keys()]) this.#settle(id, error);
  }
}
