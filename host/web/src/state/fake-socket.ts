import type { Socket } from './link';

/** A WebSocket that a test plays the other side of. */
export class FakeSocket implements Socket {
  readyState: Socket['readyState'] = 0;
  bufferedAmount = 0;
  binaryType: BinaryType = 'blob';
  onopen: Socket['onopen'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  onmessage: Socket['onmessage'] = null;
  sent: (string | Uint8Array)[] = [];
  readonly address: string;

  constructor(address: string) {
    this.address = address;
  }

  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void {
    this.sent.push(data as string | Uint8Array);
  }

  close(): void {
    this.readyState = 3;
  }

  accept(): void {
    this.readyState = 1;
    this.onopen?.call(this as unknown as WebSocket, new Event('open'));
  }

  receive(data: unknown): void {
    const value = data instanceof Uint8Array ? data.buffer : typeof data === 'string' ? data : JSON.stringify(data);
    this.onmessage?.call(this as unknown as WebSocket, new MessageEvent('message', { data: value }));
  }

  drop(): void {
    this.readyState = 3;
    this.onclose?.call(this as unknown as WebSocket, new Event('close') as CloseEvent);
  }
}
