import { backoff } from './backoff';

/** What a link is doing, told to its owner on every change. */
export type LinkState =
  | { phase: 'connecting'; attempt: number }
  | { phase: 'open' }
  | { phase: 'waiting'; attempt: number; retryAt: number }
  | { phase: 'closed'; reason: string | null };

/** The part of WebSocket that a link uses; tests give their own. */
export type Socket = Pick<
  WebSocket,
  'send' | 'close' | 'readyState' | 'bufferedAmount' | 'binaryType' | 'onopen' | 'onclose' | 'onerror' | 'onmessage'
>;

export interface LinkOptions {
  /** Asked before each attempt: it may say where to resume. */
  address: () => string;
  onOpen?: (link: Link) => void;
  onMessage: (data: string | ArrayBuffer, link: Link) => void;
  onState?: (state: LinkState) => void;
  /** Sent after `silence` milliseconds without a message; no answer within another `silence` means a dead connection. */
  keepAlive?: { message: string; silence: number };
  connect?: (address: string) => Socket;
}

/** How long an attempt may take before it counts as failed. */
const OPEN_LIMIT = 10_000;

/** A WebSocket that comes back: after any loss it connects again, later and later, until it is closed from here. */
export class Link {
  state: LinkState = { phase: 'connecting', attempt: 0 };
  readonly #options: LinkOptions;
  #socket: Socket | null = null;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** Begins. Nothing happens before, so that an owner can first put itself in order. */
  open(): this {
    this.#connect();
    return this;
  }

  /** Sends if connected; what is sent into a lost connection is not kept. */
  send(data: string | Uint8Array<ArrayBuffer>): boolean {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(data);
    return true;
  }

  /** Stops waiting and tries now. Does nothing while connected or closed for good. */
  retry = (): void => {
    if (this.state.phase === 'waiting') this.#connect();
  };

  /** Drops the present connection, if any, and makes a new one now. */
  renew(): void {
    if (this.state.phase === 'closed') return;
    this.#drop();
    this.#attempt = 0;
    this.#connect();
  }

  /** Ends the link for good. */
  close(reason: string | null = null): void {
    this.#drop();
    this.#set({ phase: 'closed', reason });
  }

  #set(state: LinkState): void {
    this.state = state;
    this.#options.onState?.(state);
  }

  #drop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onclose = socket.onerror = socket.onmessage = null;
    socket.close();
  }

  #connect(): void {
    this.#drop();
    this.#set({ phase: 'connecting', attempt: this.#attempt });
    const connect = this.#options.connect ?? ((address: string) => new WebSocket(address));
    const socket = connect(this.#options.address());
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    this.#timer = setTimeout(() => this.#lost(), OPEN_LIMIT);
    socket.onopen = () => {
      clearTimeout(this.#timer);
      this.#set({ phase: 'open' });
      this.#watch();
      this.#options.onOpen?.(this);
    };
    socket.onmessage = (event: MessageEvent) => {
      // Only now is the other side known to work: a proxy may accept a connection and then drop it.
      this.#attempt = 0;
      this.#watch();
      this.#options.onMessage(event.data, this);
    };
    socket.onclose = () => this.#lost();
  }

  #lost(): void {
    this.#drop();
    const wait = backoff(this.#attempt);
    this.#attempt += 1;
    this.#set({ phase: 'waiting', attempt: this.#attempt, retryAt: Date.now() + wait });
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #watch(): void {
    const keepAlive = this.#options.keepAlive;
    if (!keepAlive) return;
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.send(keepAlive.message);
      this.#watchdog = setTimeout(() => this.#lost(), keepAlive.silence);
    }, keepAlive.silence);
  }
}
