/** Where terminal bytes go: xterm's `write`, which calls back when it has taken them in. */
export interface Sink {
  write(data: Uint8Array, done: () => void): void;
  reset(): void;
}

export interface PumpOptions {
  /** How many bytes the sink may be busy with at once. */
  inFlight?: number;
  /** How many bytes may wait. Beyond it they are dropped, up to the next `startOver`. */
  limit?: number;
  /** The limit was passed: bytes are being dropped, and the screen must be fetched anew. */
  onOverflow?: () => void;
}

/**
 * Passes bytes to a terminal no faster than it takes them in. A terminal that is far behind does not get the old bytes at all:
 * they are dropped, and the owner fetches the present screen instead.
 */
export class Pump {
  readonly #sink: Sink;
  readonly #inFlightLimit: number;
  readonly #limit: number;
  readonly #onOverflow: () => void;
  #queue: (Uint8Array | 'reset')[] = [];
  #waiting = 0;
  #inFlight = 0;
  #dropping = false;

  constructor(sink: Sink, options: PumpOptions = {}) {
    this.#sink = sink;
    this.#inFlightLimit = options.inFlight ?? 512 * 1024;
    this.#limit = options.limit ?? 8 * 1024 * 1024;
    this.#onOverflow = options.onOverflow ?? (() => {});
  }

  /** Whether bytes are being dropped. */
  get dropping(): boolean {
    return this.#dropping;
  }

  push(data: Uint8Array): void {
    if (this.#dropping || data.length === 0) return;
    this.#queue.push(data);
    this.#waiting += data.length;
    if (this.#waiting > this.#limit) {
      this.#queue = [];
      this.#waiting = 0;
      this.#dropping = true;
      this.#onOverflow();
      return;
    }
    this.#run();
  }

  /** What follows replaces everything so far: the terminal is emptied right before it, not earlier. */
  startOver(): void {
    this.#queue = ['reset'];
    this.#waiting = 0;
    this.#dropping = false;
    this.#run();
  }

  #run(): void {
    while (this.#queue.length > 0 && this.#inFlight < this.#inFlightLimit) {
      const next = this.#queue[0] as Uint8Array | 'reset';
      if (next === 'reset') {
        // Bytes that the sink still holds would be written after the reset, so they are waited for.
        if (this.#inFlight > 0 || this.#queue.length === 1) return;
        this.#queue.shift();
        this.#sink.reset();
        continue;
      }
      this.#queue.shift();
      this.#waiting -= next.length;
      this.#inFlight += next.length;
      this.#sink.write(next, () => {
        this.#inFlight -= next.length;
        this.#run();
      });
    }
  }
}
