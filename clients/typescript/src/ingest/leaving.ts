/** Sends what clients still hold when a Node.js process ends by itself, or when a page goes away. */

/** What holds records that are not sent yet. */
export interface Holder {
  /** Send everything. */
  seal(): void;
  /** Send at once what the browser allows. */
  leave(): void;
}

interface Global {
  readonly process?: { on?(event: string, listener: () => void): void };
  readonly document?: { readonly visibilityState: string };
  addEventListener?(event: string, listener: () => void): void;
}

const holders = new Set<Holder>();
let isListening = false;

/** Send what this holder holds at the end. */
export function watch(holder: Holder): void {
  holders.add(holder);
  if (isListening) return;
  isListening = true;
  const { process, document, addEventListener } = globalThis as Global;
  if (!document) {
    process?.on?.("beforeExit", sealAll);
    return;
  }
  // A page on a telephone often ends hidden, without `pagehide`.
  addEventListener?.("pagehide", leaveAll);
  addEventListener?.("visibilitychange", () => document.visibilityState === "hidden" && leaveAll());
}

/** Forget a holder that holds nothing. */
export function unwatch(holder: Holder): void {
  holders.delete(holder);
}

function sealAll(): void {
  for (const each of holders) each.seal();
}

function leaveAll(): void {
  for (const each of holders) each.leave();
}
