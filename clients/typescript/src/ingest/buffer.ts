import { BufferFullError, type DatasetError } from "../errors.js";
import type { Clock } from "../transport.js";
import { unwatch, watch } from "./leaving.js";
import type { Receipt } from "./options.js";

/** An enqueued record. */
export interface Entry {
  /** Its position in the order of `enqueue`, counted from 0. */
  readonly index: number;
  readonly text: string;
  readonly bytes: number;
  resolve(receipt: Receipt): void;
  reject(error: DatasetError): void;
}

/** How a buffer is limited. */
export interface BufferOptions {
  /** The maximum number of records in one request. Default: 500. */
  readonly maxBatchRecords?: number;
  /** The maximum size of the records in one request, in bytes before compression. Default: 524,288 (512 KiB). */
  readonly maxBatchBytes?: number;
  /** An enqueued record is sent after at most this number of milliseconds. Default: 1,000. */
  readonly flushIntervalMs?: number;
  /** The maximum number of batches that are sent at the same time. Default: 4. */
  readonly maxConcurrentRequests?: number;
  /** The maximum size of all records that wait or are being sent, in bytes. Default: 16,777,216 (16 MiB). */
  readonly maxBufferedBytes?: number;
  /** What `enqueue` does if the buffer is full: reject the record (`"error"`, the default), or wait (`"block"`). */
  readonly onOverflow?: "error" | "block";
}

/** Delivers a batch and settles each entry. With `isLeaving`, it sends now: the page is being closed. Never rejects. */
export type Deliver = (entries: readonly Entry[], isLeaving: boolean) => Promise<void>;

interface Batch {
  readonly entries: Entry[];
  bytes: number;
}

// Browsers let a page send only 64 KiB while it is being closed.
const MAX_KEEPALIVE_BYTES = 60_000;

/** Collects entries into batches, and delivers a limited number of batches at the same time. */
export class Buffer {
  readonly #limits: Required<BufferOptions>;
  readonly #clock: Clock;
  readonly #deliver: Deliver;
  #open: Batch = { entries: [], bytes: 0 };
  #sealed: Batch[] = [];
  readonly #delivering = new Set<Batch>();
  #bytes = 0;
  #last = -1;
  #timer: unknown;
  /** Entries that wait for room. */
  #waiting: Entry[] = [];
  /** These functions are called when the next batch is settled. */
  #watchers: (() => void)[] = [];
  #isFlushing = 0;

  constructor(options: BufferOptions, clock: Clock, deliver: Deliver) {
    this.#limits = {
      maxBatchRecords: options.maxBatchRecords ?? 500,
      maxBatchBytes: options.maxBatchBytes ?? 512 * 1024,
      flushIntervalMs: options.flushIntervalMs ?? 1000,
      maxConcurrentRequests: options.maxConcurrentRequests ?? 4,
      maxBufferedBytes: options.maxBufferedBytes ?? 16 * 1024 * 1024,
      onOverflow: options.onOverflow ?? "error",
    };
    this.#clock = clock;
    this.#deliver = deliver;
  }

  /** Add an entry, or let it wait for room. Return an error if the buffer is full and the entry must not wait. */
  add(entry: Entry): DatasetError | undefined {
    const { maxBufferedBytes, onOverflow } = this.#limits;
    this.#last = entry.index;
    if (!this.#waiting.length && this.#hasRoom(entry)) {
      this.#put(entry);
    } else if (onOverflow === "block" && entry.bytes <= maxBufferedBytes) {
      this.#waiting.push(entry);
      this.#sealIfIdle();
    } else {
      const detail = `maxBufferedBytes is ${maxBufferedBytes}.`;
      const body = { error: "The buffer is full", code: "buffer_full", detail };
      return new BufferFullError(body, { indexes: [entry.index] });
    }
    return undefined;
  }

  /** Resolve when no entry waits for room, and the buffer is not full. */
  async room(): Promise<void> {
    while (this.#waiting.length || this.#bytes >= this.#limits.maxBufferedBytes) {
      this.#sealIfIdle();
      await this.#progress();
    }
  }

  /** Deliver all entries that were added before. Resolve when each of them is settled. */
  async flush(): Promise<void> {
    const last = this.#last;
    const isEarly = (entry: Entry | undefined): boolean => entry !== undefined && entry.index <= last;
    const isLeft = (batch: Batch): boolean => isEarly(batch.entries[0]);
    this.#isFlushing++;
    this.seal();
    while ([...this.#delivering, ...this.#sealed].some(isLeft) || isEarly(this.#waiting[0])) await this.#progress();
    this.#isFlushing--;
  }

  /** Deliver the open batch now. */
  seal(): void {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#open.entries.length) this.#sealed.push(this.#open);
    this.#open = { entries: [], bytes: 0 };
    this.#startSealed();
  }

  /** Send now what the browser allows while the page is being closed. If the page stays, send the rest as usual. */
  leave(): void {
    const all = [...this.#sealed, this.#open].flatMap((each) => each.entries);
    const first: Batch = { entries: [], bytes: 0 };
    while (all[0] && first.bytes + all[0].bytes < MAX_KEEPALIVE_BYTES) push(first, all.shift() as Entry);
    this.#sealed = [];
    this.#open = { entries: [], bytes: 0 };
    if (first.entries.length) this.#start(first, true);
    for (const each of all) {
      this.#bytes -= each.bytes; // #put adds these bytes again
      this.#put(each);
    }
    this.seal();
  }

  #hasRoom({ bytes }: Entry): boolean {
    return this.#bytes + bytes <= this.#limits.maxBufferedBytes;
  }

  #put(entry: Entry): void {
    const { maxBatchBytes, maxBatchRecords, flushIntervalMs } = this.#limits;
    if (this.#open.bytes + entry.bytes > maxBatchBytes) this.seal();
    if (!this.#bytes) watch(this);
    this.#bytes += entry.bytes;
    push(this.#open, entry);
    if (this.#open.entries.length >= maxBatchRecords) this.seal();
    else if (this.#timer === undefined) {
      this.#timer = this.#clock.setTimeout(() => this.seal(), flushIntervalMs);
      // A Node.js process that has nothing else to do does not wait for this timer: see `leaving.ts`.
      (this.#timer as { unref?(): void }).unref?.();
    }
  }

  #start(batch: Batch, isLeaving: boolean): void {
    this.#delivering.add(batch);
    this.#deliver(batch.entries, isLeaving).then(() => {
      this.#delivering.delete(batch);
      this.#bytes -= batch.bytes;
      if (!this.#bytes) unwatch(this);
      while (this.#waiting[0] && this.#hasRoom(this.#waiting[0])) this.#put(this.#waiting.shift() as Entry);
      if (this.#isFlushing) this.seal();
      this.#startSealed();
      if (this.#waiting.length) this.#sealIfIdle();
      for (const wake of this.#watchers.splice(0)) wake();
    });
  }

  #startSealed(): void {
    while (this.#sealed.length && this.#delivering.size < this.#limits.maxConcurrentRequests) {
      this.#start(this.#sealed.shift() as Batch, false);
    }
  }

  /** Deliver the open batch if no batch is being delivered, because only a delivery makes room. */
  #sealIfIdle(): void {
    if (!this.#delivering.size) this.seal();
  }

  #progress(): Promise<void> {
    return new Promise((resolve) => {
      this.#watchers.push(resolve);
    });
  }
}

function push(batch: Batch, entry: Entry): void {
  batch.entries.push(entry);
  batch.bytes += entry.bytes;
}
