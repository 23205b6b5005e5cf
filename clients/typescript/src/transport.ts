/** HTTP requests with retries. */

import { type DatasetError, type ErrorBody, errorOf, OutcomeUnknownError, ServiceUnavailableError } from "./errors.js";

/** The time and the timers that a client uses. Tests pass their own clock. */
export interface Clock {
  now(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** The options of both clients that are about requests. */
export interface TransportOptions {
  /** The address of the service, such as `https://ingest.example.com`. */
  readonly baseUrl: string;
  /** The maximum number of repetitions of a request. Default: 20. */
  readonly maxRetries?: number;
  /** For how long a request is repeated, in milliseconds. Default: 300,000 (five minutes). */
  readonly retryForMs?: number;
  /** The longest pause between two attempts, in milliseconds. Default: 30,000. */
  readonly maxBackoffMs?: number;
  /** The client cancels an attempt that has no answer after this number of milliseconds. Default: 30,000. */
  readonly requestTimeoutMs?: number;
  /** Whether bodies above 1 KiB are compressed. Default: true, where `CompressionStream` exists. */
  readonly gzip?: boolean;
  readonly fetch?: typeof globalThis.fetch;
  readonly clock?: Clock;
}

/** A request of the service's API. */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly body?: string;
  readonly datasetId?: number;
  /** With this key, the service carries out a repeated request only once. */
  readonly idempotencyKey?: string;
  /** Whether the request changes nothing. */
  readonly isRead?: boolean;
  /** Whether the page is being closed: then the request is sent immediately, without compression. */
  readonly keepalive?: boolean;
}

/** The answer to a request that succeeded. */
export interface Answer {
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: each caller knows the body of its request
  readonly body: any;
  readonly requestId: string;
}

const MIN_COMPRESSED = 1024;
const FIRST_BACKOFF_MS = 250;
const RETRIED = [408, 409, 425, 429];
// Node's codes for failures that happen before anything is sent.
const NOT_SENT = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"];

const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer as number),
};

/** A failed attempt. */
interface Failed {
  readonly error: DatasetError;
  readonly isRetried: boolean;
  /** Whether the service may have processed the request. */
  readonly isUnknown: boolean;
  /** Whether the failure proves that the service has not processed any earlier attempt. */
  readonly isDefinite: boolean;
}

/** Sends requests with one API key or token. */
export class Transport {
  readonly clock: Clock;
  readonly #options: TransportOptions;
  readonly #token: string;
  readonly #base: string;

  /** @throws TypeError if the address or the token is invalid. */
  constructor(options: TransportOptions, token: string) {
    const { baseUrl } = options;
    if (!/^https?:\/\//i.test(baseUrl))
      throw new TypeError(`baseUrl must begin with http:// or https://, but it is ${JSON.stringify(baseUrl)}.`);
    this.#options = options;
    this.#base = new URL(baseUrl).href.replace(/\/+$/, "");
    this.#token = `${token ?? ""}`.trim();
    if (!/^[ -~]+$/.test(this.#token))
      throw new TypeError("An API key or a token is a text of visible ASCII characters, and is not empty.");
    this.clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** Resolve after a time. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.clock.setTimeout(resolve, ms);
    });
  }

  /**
   * Send a request until it succeeds, until it fails with an error that is not retried, or until no retry is left.
   *
   * @throws DatasetError
   */
  async send(request: Request): Promise<Answer> {
    const { maxRetries = 20, retryForMs = 300_000, maxBackoffMs = 30_000 } = this.#options;
    const deadline = this.clock.now() + retryForMs;
    let isUnknown = false;
    for (let attempt = 0; ; attempt++) {
      const answer = await this.#attempt(attempt ? { ...request, keepalive: false } : request);
      if (!("error" in answer)) return answer;
      isUnknown ||= answer.isUnknown;
      const wait = waitOf(answer.error, Math.min(maxBackoffMs, FIRST_BACKOFF_MS * 2 ** attempt));
      const isLast = attempt >= maxRetries || this.clock.now() + wait > deadline;
      if (isLast || !answer.isRetried)
        throw isUnknown && !answer.isDefinite ? unknownOutcome(request, answer.error) : answer.error;
      await this.sleep(wait);
    }
  }

  async #attempt(request: Request): Promise<Answer | Failed> {
    const { method, path, body, idempotencyKey, keepalive = false } = request;
    const { fetch = globalThis.fetch, gzip = true, requestTimeoutMs = 30_000 } = this.#options;
    const isCompressed = gzip && !keepalive && body && body.length > MIN_COMPRESSED && globalThis.CompressionStream;
    const abort = new AbortController();
    const timer = this.clock.setTimeout(() => abort.abort(), requestTimeoutMs);
    try {
      const response = await fetch(this.#base + path, {
        method,
        headers: {
          Authorization: `Bearer ${this.#token}`,
          ...(body && { "Content-Type": "application/json" }),
          ...(idempotencyKey && { "Idempotency-Key": idempotencyKey }),
          ...(isCompressed && { "Content-Encoding": "gzip" }),
        },
        body: isCompressed ? await gzipped(body) : (body ?? null),
        keepalive,
        signal: abort.signal,
      });
      const text = await response.text();
      const { headers } = response;
      if (!response.ok) return refused(request, response, text);
      return { headers, body: parsed(text), requestId: headers.get("X-Request-Id") ?? "" };
    } catch (cause) {
      return unanswered(request, cause, abort.signal.aborted);
    } finally {
      this.clock.clearTimeout(timer);
    }
  }
}

/** Return a random ID of 128 bits. `crypto.randomUUID` does not exist on pages without TLS. */
export function randomId(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}

function gzipped(text: string): Promise<ArrayBuffer> {
  const { readable, writable } = new CompressionStream("gzip");
  const writer = writable.getWriter(); // faster than the stream of a Blob, which Node.js reads in many pieces
  writer.write(new TextEncoder().encode(text));
  writer.close();
  return new Response(readable).arrayBuffer();
}

/** Return the milliseconds to wait after a failed attempt: a random time, after the pause that the service asks for. */
function waitOf({ retryAfterMs }: DatasetError, backoffMs: number): number {
  return retryAfterMs === undefined ? Math.random() * backoffMs : retryAfterMs + Math.random() * FIRST_BACKOFF_MS;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refused(request: Request, { status, headers }: Response, text: string): Failed {
  const said = parsed(text) as ErrorBody | undefined;
  const body = said?.code ? said : { error: `HTTP status ${status}`, code: "no_json", detail: text.slice(0, 200) };
  const error = errorOf(body, {
    status,
    requestId: headers.get("X-Request-Id") ?? undefined,
    datasetId: request.datasetId,
    retryAfterMs: retryAfter(headers.get("Retry-After")),
  });
  const { code } = body;
  const isLost = status >= 500 && (status !== 503 || !said?.code || /outcome is unknown/.test(said.detail ?? ""));
  // Before most refusals, the service looks for the first answer to the Idempotency-Key. If it answers with one of the
  // statuses below, it may not have looked yet. The refusal `queue_full` is an exception: it comes after the look.
  const isDefinite = code === "queue_full" || !(status >= 500 || [401, 403, 408, 409, 425].includes(status));
  return {
    error,
    // idempotency_key_in_progress: the service is still processing an earlier attempt.
    isUnknown: isLost || /progress/.test(code),
    isDefinite,
    isRetried: status >= 500 || (RETRIED.includes(status) && code !== "query_too_slow"),
  };
}

function unanswered({ datasetId }: Request, cause: unknown, isLate: boolean): Failed {
  const reason = (cause as { cause?: { code?: string } }).cause?.code;
  const detail = isLate ? "It took too long." : (reason ?? String(cause));
  const error = new ServiceUnavailableError(
    { error: "No answer from the service", code: "no_answer", detail },
    { datasetId, cause },
  );
  return { error, isUnknown: !NOT_SENT.includes(reason ?? ""), isDefinite: false, isRetried: true };
}

function unknownOutcome({ isRead, datasetId }: Request, cause: DatasetError): DatasetError {
  if (isRead) return cause;
  const { status, requestId } = cause;
  const body = { error: "The outcome is unknown", code: "outcome_unknown", detail: cause.body.error };
  return new OutcomeUnknownError(body, { status, requestId, datasetId, cause });
}

/** Return the value of a Retry-After header in milliseconds. The header has seconds or a date. */
function retryAfter(header: string | null): number | undefined {
  if (!header) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
