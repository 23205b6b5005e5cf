import type { Clock } from "@dataset-ingest/client";

interface Timer {
  readonly at: number;
  readonly callback: () => void;
}

/** A clock that moves when a test moves it, or when a short timer ends. Short timers end immediately. */
export class TestClock implements Clock {
  #now = 0;
  readonly #timers = new Set<Timer>();
  /** The waiting times of all timers, in the order in which they were set. */
  readonly waits: number[] = [];

  /** @param skipped Timers of less than this number of milliseconds end immediately. */
  constructor(private readonly skipped = 0) {}

  now(): number {
    return this.#now;
  }

  setTimeout(callback: () => void, ms: number): unknown {
    this.waits.push(ms);
    const timer = { at: this.#now + ms, callback };
    this.#timers.add(timer);
    if (ms < this.skipped) setImmediate(() => this.#fire(timer));
    return timer;
  }

  clearTimeout(timer: unknown): void {
    this.#timers.delete(timer as Timer);
  }

  /** Let time pass. */
  pass(ms: number): void {
    this.#now += ms;
    for (const timer of [...this.#timers].filter((each) => each.at <= this.#now)) this.#fire(timer);
  }

  #fire(timer: Timer): void {
    if (!this.#timers.delete(timer)) return;
    this.#now = Math.max(this.#now, timer.at);
    timer.callback();
  }
}
