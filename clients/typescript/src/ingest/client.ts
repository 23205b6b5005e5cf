import type { Dataset, Fields, RecordOf } from "../dataset.js";
import { ClosedError, DatasetError, type ErrorBody, ValidationError } from "../errors.js";
import { randomId, Transport } from "../transport.js";
import { byteLength } from "../validation/json.js";
import { type Problem, readAll } from "../validation/validate.js";
import { Buffer, type Entry } from "./buffer.js";
import type { IngestOptions, Receipt } from "./options.js";
import { Receipts } from "./receipts.js";

// The default limits of the service for one request. If a request is larger, the answer is 413.
const MAX_REQUEST_RECORDS = 10_000;
const MAX_REQUEST_BYTES = 10 * 1024 * 1024;

/** `until` says when a flush is done: when its records are accepted or refused, or when they are in the table. */
export interface FlushOptions {
  readonly until?: "accepted" | "stored";
  /** After this number of milliseconds, `flush` stops waiting. The records are sent anyway. */
  readonly timeoutMs?: number;
}

/** Sends records to one dataset. It checks them first, by the rules of the service. */
export class DatasetIngestClient<F extends Fields = Fields> {
  readonly #dataset: Dataset<F>;
  readonly #options: IngestOptions<F>;
  readonly #transport: Transport;
  readonly #buffer: Buffer;
  readonly #receipts: Receipts;
  #enqueued = 0;
  #isClosed = false;

  constructor(options: IngestOptions<F>) {
    this.#options = options;
    this.#dataset = options.dataset;
    this.#transport = new Transport(options, options.apiKey);
    this.#receipts = new Receipts(this.#transport, options.dataset.id);
    this.#buffer = new Buffer(options, this.#transport.clock, (entries, isLeaving) =>
      this.#deliver(entries, isLeaving),
    );
  }

  /**
   * Send a record, or an array of records in one request. Resolve when all records are accepted.
   *
   * The service accepts all records of a request or none. If an array is above the service's limits, the client splits
   * the array into several requests. Then the `indexes` of an error name the records that were not accepted.
   *
   * @throws DatasetError
   */
  async send(records: RecordOf<F> | readonly RecordOf<F>[]): Promise<Receipt> {
    if (this.#isClosed) throw this.#closed();
    const { texts, problems, truncated } = readAll(this.#dataset.validator, records);
    if (problems.length) throw this.#invalid(problems, truncated);
    return Array.isArray(records) ? this.#sendAll(texts) : this.#post("", texts.join(), [0]);
  }

  /**
   * Send a record later, together with other records. Resolve when the record is accepted.
   *
   * The promise always settles. If it rejects, the program must handle it, or pass the hook `onError`.
   */
  enqueue(record: RecordOf<F>): Promise<Receipt> {
    const index = this.#enqueued++;
    const { text, problems } = this.#dataset.validator.read(record);
    const promise = new Promise<Receipt>((resolve, reject) => {
      const entry = { index, text, bytes: byteLength(text), resolve, reject };
      const error = this.#isClosed
        ? this.#closed(index)
        : problems.length
          ? this.#invalid(problems.map((each) => ({ index, ...each })))
          : this.#buffer.add(entry);
      if (error) this.#reject([entry], error);
    });
    if (this.#options.onError) promise.catch(() => {});
    return promise;
  }

  /** Resolve when the buffer has room. With `onOverflow: "block"`, await this before each `enqueue` to limit memory. */
  room(): Promise<void> {
    return this.#buffer.room();
  }

  /**
   * Send everything that was enqueued before. Resolve when each of these records is accepted or refused. With
   * `until: "stored"`, resolve when the accepted records, also those of `send`, are in the table.
   *
   * @throws DatasetError after `timeoutMs`, or if records are in quarantine.
   */
  async flush({ until = "accepted", timeoutMs }: FlushOptions = {}): Promise<void> {
    if (until !== "accepted" && until !== "stored") throw new TypeError('until must be "accepted" or "stored".');
    const done = this.#buffer.flush().then(() => (until === "stored" ? this.#receipts.stored() : undefined));
    if (timeoutMs === undefined) return done;
    const { clock } = this.#transport;
    let timer: unknown;
    const late = new Promise<never>((_, reject) => {
      const body = { error: "The flush took too long", code: "flush_timeout" };
      timer = clock.setTimeout(() => reject(new DatasetError(body, { datasetId: this.#dataset.id })), timeoutMs);
    });
    return Promise.race([done, late]).finally(() => clock.clearTimeout(timer));
  }

  /** Refuse further records, and flush. */
  async close(options?: FlushOptions): Promise<void> {
    this.#isClosed = true;
    await this.flush(options);
  }

  /** Deliver a batch of enqueued records, and settle each of them. */
  async #deliver(entries: readonly Entry[], isLeaving: boolean): Promise<void> {
    const body = `[${entries.map((each) => each.text)}]`;
    const indexes = entries.map((each) => each.index);
    try {
      const receipt = await this.#post("/batch", body, indexes, isLeaving);
      for (const each of entries) each.resolve(receipt);
    } catch (error) {
      await this.#settle(entries, error as DatasetError);
    }
  }

  /** Settle the entries of a failed batch. If the service may accept some of the entries, send these entries again. */
  async #settle(entries: readonly Entry[], error: DatasetError): Promise<void> {
    const isMany = entries.length > 1;
    if (isMany && error.status === 413) {
      const half = Math.ceil(entries.length / 2);
      await Promise.all([entries.slice(0, half), entries.slice(half)].map((each) => this.#deliver(each, false)));
      return;
    }
    const bad = new Set(isMany && error instanceof ValidationError ? error.indexes : []);
    if (!bad.size) {
      this.#reject(entries, error);
      return;
    }
    for (const each of entries) if (bad.has(each.index)) this.#reject([each], aboutOne(error, each.index));
    const others = entries.filter((each) => !bad.has(each.index));
    if (others.length) await this.#deliver(others, false);
  }

  #reject(entries: readonly Entry[], error: DatasetError): void {
    for (const each of entries) each.reject(error);
    this.#tell(() =>
      this.#options.onError?.(
        error,
        entries.map((each) => each.text),
      ),
    );
  }

  /** Send texts in as few requests as the service's limits allow. */
  async #sendAll(texts: readonly string[]): Promise<Receipt> {
    const receipts: Receipt[] = [];
    const indexes = [...texts.keys()];
    let most = MAX_REQUEST_RECORDS;
    for (let from = 0; from < texts.length; ) {
      const part = firstPart(texts.slice(from, from + most));
      try {
        receipts.push(await this.#post("/batch", `[${part}]`, indexes.slice(from, from + part.length)));
        from += part.length;
      } catch (error) {
        const { status } = error as DatasetError;
        if (status === 413 && part.length > 1) most = Math.ceil(part.length / 2);
        else throw receipts.length ? (error as DatasetError).about(indexes.slice(from)) : error;
      }
    }
    const locations = receipts.flatMap((each) => each.locations);
    return { ...(receipts[0] as Receipt), count: texts.length, locations };
  }

  /** Send one request. Errors name the records of the request by `indexes`. */
  async #post(suffix: string, body: string, indexes: readonly number[], keepalive = false): Promise<Receipt> {
    const datasetId = this.#dataset.id;
    const path = `/datasets/${datasetId}${suffix}`;
    const request = { method: "POST", path, body, datasetId, idempotencyKey: randomId(), keepalive };
    const answer = await this.#transport.send(request).catch((error) => {
      throw located(error, indexes);
    });
    const location = answer.headers.get("Location");
    if (location) this.#receipts.add(location);
    const { requestId } = answer;
    const receipt = { datasetId, count: indexes.length, requestId, locations: location ? [location] : [] };
    this.#tell(() => this.#options.onAccepted?.(receipt));
    return receipt;
  }

  /** Call a hook. If it throws, print the error and continue. */
  #tell(hook: () => void): void {
    try {
      hook();
    } catch (error) {
      console.error(error);
    }
  }

  #invalid(errors: readonly Problem[], truncated = false): ValidationError {
    const body = { ...(errors[0] as ErrorBody), errors, truncated };
    return new ValidationError(body, { datasetId: this.#dataset.id, indexes: indexesOf(errors) });
  }

  #closed(...indexes: number[]): ClosedError {
    const body = { error: "The client is closed", code: "closed" };
    return new ClosedError(body, { datasetId: this.#dataset.id, indexes });
  }
}

/** Return as many of the first texts as fit into one body, but at least one. */
function firstPart(texts: readonly string[]): readonly string[] {
  let bytes = 2;
  const end = texts.findIndex((text, index) => {
    bytes += byteLength(text) + 1;
    return index > 0 && bytes > MAX_REQUEST_BYTES;
  });
  return end < 0 ? texts : texts.slice(0, end);
}

function indexesOf(problems: readonly Problem[]): number[] {
  return [...new Set(problems.map((each) => each.index ?? 0))];
}

/** Return an error that names the records by their indexes in the call, and not in the request. */
function located(error: DatasetError, indexes: readonly number[]): DatasetError {
  const { errors } = error.body;
  if (!(error instanceof ValidationError) || !errors) return error.about(indexes);
  const moved = errors.map((each) =>
    each.index === undefined ? each : { ...each, index: indexes[each.index] ?? each.index },
  );
  return error.about(indexesOf(moved), { ...error.body, errors: moved });
}

/** Return the error of one record, made from the error of its batch. */
function aboutOne(error: DatasetError, index: number): DatasetError {
  const errors = error.body.errors?.filter((each) => each.index === index) ?? [];
  return error.about([index], { ...(errors[0] as ErrorBody), errors });
}
