/** Sends the records that clients still hold when a Node.js process ends by itself, or when a page is closed. */

/** An object that holds records that are not sent yet. */
export interface Holder {
  /** Send everything. */
  seal(): void;
  /** Send immediately what the browser allows. */
  leave(): void;
}

interface Global {
  readonly process?: { on?(event: string, listener: () => void): void };
  readonly document?: { readonly visibilityState: string };
  addEventListener?(event: string, listener: () => void): void;
}

const holders = new Set<Holder>();
let isListening = false;

/** Send the records of this holder when the process or the page ends. */
export function watch(holder: Holder): void {
  holders.add(holder);
  if (isListening) return;
  isListening = true;
  const { process, document, addEventListener } = globalThis as Global;
  if (!document) {
    process?.on?.("beforeExit", sealAll);
    return;
  }
  // On a telephone, a page is often hidden and then ended, without the event `pagehide`.
  addEventListener?.("pagehide", leaveAll);
  addEventListener?.("visibilitychange", () => document.visibilityState === "hidden" && leaveAll());
}

/** Forget a holder that has no records. */
export function unwatch(holder: Holder): void {
  holders.delete(holder);
}

function sealAll(): void {
  for (const each of holders) each.seal();
}

function leaveAll(): void {
  for (const each of holders) each.leave();
}
