import { socketAddress } from '../api/client';
import type { ConsoleControl } from '../api/types';
import { Link, type LinkState, type Socket } from './link';
import { Pump, type Sink } from './pump';

export interface Size {
  cols: number;
  rows: number;
}

export interface Exit {
  code: number | null;
}

export interface ConsoleOptions {
  session: string;
  sink: Sink;
  /** The size that fits the page, asked for at each connection. */
  size: () => Size;
  readOnly?: boolean;
  onState: (state: LinkState) => void;
  /** The program ended, with this code where it is known; null once one runs again. */
  onExit: (exit: Exit | null) => void;
  /** The screen and history have arrived; what follows is live. */
  onReplayed?: () => void;
  /** Another client has given the terminal this size. */
  onResize: (size: Size) => void;
  /** Something the server refused, in its words. */
  onError: (message: string) => void;
  /** Whether the terminal cannot keep up, and is waiting to fetch the present screen. */
  onBehind?: (behind: boolean) => void;
  connect?: (address: string) => Socket;
}

/** After an overflow the screen is fetched anew once the output has been calm for this long, … */
const CALM = 150;
/** … or at the latest after this long. */
const PATIENCE = 2_000;
/** Input typed while a connection is being made anew is kept up to this many characters. */
const KEPT_INPUT = 4_096;

const encoder = new TextEncoder();

/** The client's end of `/ws/console`: joins, rejoins after a loss, and passes bytes both ways. */
export class Console {
  readonly #options: ConsoleOptions;
  readonly #link: Link;
  readonly #pump: Pump;
  #fresh = true;
  /** Whether the screen and history so far have arrived. */
  #live = false;
  #exited = false;
  #renewing = false;
  #kept = '';
  #calm: ReturnType<typeof setTimeout> | undefined;
  #patience: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConsoleOptions) {
    this.#options = options;
    this.#pump = new Pump(options.sink, { onOverflow: () => this.#overflow() });
    this.#link = new Link({
      address: () => consoleAddress(options.session, options.size(), options.readOnly ?? false),
      onState: (state) => options.onState(state),
      onOpen: () => this.#opened(),
      onMessage: (data) => this.#receive(data),
      ...(options.connect ? { connect: options.connect } : {}),
    });
  }

  open(): this {
    this.#link.open();
    return this;
  }

  /** Sends keystrokes. Typed while nothing is connected they are dropped: nobody should find them executed minutes later. */
  input(text: string): void {
    if (this.#options.readOnly) return;
    if (!this.#link.send(encoder.encode(text)) && this.#renewing) this.#kept = (this.#kept + text).slice(0, KEPT_INPUT);
  }

  /** Sends bytes as they are: what the terminal gives as a binary string, as old mouse reports. */
  inputBytes(binary: string): void {
    if (!this.#options.readOnly) this.#link.send(Uint8Array.from(binary, (character) => character.charCodeAt(0) & 255));
  }

  resize(size: Size): void {
    if (!this.#options.readOnly) this.#link.send(JSON.stringify({ type: 'resize', ...size }));
  }

  retry = (): void => this.#link.retry();

  close(): void {
    clearTimeout(this.#calm);
    clearTimeout(this.#patience);
    this.#link.close();
  }

  #opened(): void {
    this.#fresh = true;
    this.#live = false;
    this.#renewing = false;
    if (this.#kept) {
      this.#link.send(encoder.encode(this.#kept));
      this.#kept = '';
    }
  }

  #receive(data: string | ArrayBuffer): void {
    if (typeof data === 'string') {
      this.#control(data);
      return;
    }
    if (this.#fresh) {
      this.#fresh = false;
      this.#pump.startOver();
    }
    if (this.#pump.dropping) this.#restartCalm();
    else this.#pump.push(new Uint8Array(data));
    if (this.#exited && this.#live) this.#setExited(null);
  }

  #control(text: string): void {
    let message: ConsoleControl;
    try {
      message = JSON.parse(text) as ConsoleControl;
    } catch {
      return;
    }
    if (message.type === 'exit') this.#setExited({ code: message.code });
    else if (message.type === 'resize') this.#options.onResize({ cols: message.cols, rows: message.rows });
    else if (message.type === 'replay_end') {
      this.#live = true;
      this.#options.onReplayed?.();
    } else if (message.type === 'error') {
      this.#options.onError(message.message);
      if (message.message === 'Session not found') this.#link.close(message.message);
    }
  }

  #setExited(exit: Exit | null): void {
    this.#exited = exit !== null;
    this.#options.onExit(exit);
  }

  #overflow(): void {
    this.#options.onBehind?.(true);
    this.#patience = setTimeout(this.#renew, PATIENCE);
    this.#restartCalm();
  }

  #restartCalm(): void {
    clearTimeout(this.#calm);
    this.#calm = setTimeout(this.#renew, CALM);
  }

  #renew = (): void => {
    clearTimeout(this.#calm);
    clearTimeout(this.#patience);
    this.#options.onBehind?.(false);
    this.#renewing = true;
    this.#link.renew();
  };
}

export function consoleAddress(session: string, size: Size, readOnly: boolean, base?: string): string {
  const query = new URLSearchParams({ control: '1', cols: String(size.cols), rows: String(size.rows) });
  if (readOnly) query.set('mode', 'read');
  return socketAddress(`ws/console/${encodeURIComponent(session)}?${query}`, base);
}
