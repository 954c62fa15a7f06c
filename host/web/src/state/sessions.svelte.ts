import { ApiError, api, socketAddress } from '../api/client';
import type { EventsMessage, SessionEvent, SessionSummary } from '../api/types';
import { Link, type LinkState } from './link';
import { applyToList, type Sessions } from './list';

/** The list of sessions, kept true by the event stream of all of them. */
class SessionsStore {
  sessions: Sessions = $state.raw(new Map());
  link: LinkState = $state.raw({ phase: 'connecting', attempt: 0 });
  /** Whether the list has been read at least once. */
  loaded = $state(false);
  error: string | null = $state(null);
  /** The newest event of any session, so that a view of one session knows when to look again. */
  lastEvent: SessionEvent | null = $state.raw(null);

  /** How many events there have been, and at which count each session had its newest. */
  #count = 0;
  #newest = new Map<string, number>();

  #link: Link | null = null;
  /** Events that came while the list was being read; applied to it afterwards. */
  #pending: SessionEvent[] | null = null;

  open(): void {
    this.#link ??= new Link({
      address: () => socketAddress('ws/events'),
      keepAlive: { message: JSON.stringify({ type: 'ping' }), silence: 20_000 },
      onOpen: (link) => {
        this.#pending = [];
        link.send(JSON.stringify({ type: 'subscribe', session_id: '*' }));
      },
      onMessage: (data) => {
        if (typeof data === 'string') this.#receive(JSON.parse(data) as EventsMessage);
      },
      onState: (state) => {
        this.link = state;
      },
    }).open();
  }

  /** A moment to compare with: whether a session has had events since then. */
  get moment(): number {
    return this.#count;
  }

  changedSince(moment: number, id: string): boolean {
    return (this.#newest.get(id) ?? 0) > moment;
  }

  retry = (): void => this.#link?.retry();

  /** Reads the list again. Subscribing comes before it, so that nothing falls between the two. */
  reload = async (): Promise<void> => {
    this.#pending ??= [];
    try {
      const list = await api.sessions();
      this.sessions = new Map(list.map((session) => [session.id, session]));
      this.loaded = true;
      this.error = null;
    } catch (error) {
      this.error = error instanceof ApiError ? error.message : String(error);
    }
    const pending = this.#pending ?? [];
    this.#pending = null;
    for (const event of pending) this.#apply(event);
  };

  /** Takes in a session that an answer has brought, or asks for it. */
  async refresh(id: string): Promise<void> {
    try {
      // An answer that an event has overtaken must not undo what the event told.
      let moment: number;
      let session: SessionSummary;
      do {
        moment = this.moment;
        session = await api.session(id);
      } while (this.changedSince(moment, id));
      this.sessions = new Map(this.sessions).set(session.id, session);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'SESSION_NOT_FOUND') return;
      const rest = new Map(this.sessions);
      rest.delete(id);
      this.sessions = rest;
    }
  }

  #receive(message: EventsMessage): void {
    if (message.type === 'subscribed') void this.reload();
    else if (message.type === 'error') this.error = message.message;
    else if ('seq' in message && 'at' in message) {
      if (this.#pending) this.#pending.push(message);
      else this.#apply(message);
    }
  }

  #apply(event: SessionEvent): void {
    const { sessions, missing } = applyToList(this.sessions, event);
    this.sessions = sessions;
    this.#count += 1;
    this.#newest.set(event.session_id, this.#count);
    this.lastEvent = event;
    if (missing) void this.refresh(missing);
  }
}

export const store = new SessionsStore();
