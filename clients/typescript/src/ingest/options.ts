import type { Dataset, Fields } from "../dataset.js";
import type { DatasetError } from "../errors.js";
import type { TransportOptions } from "../transport.js";
import type { BufferOptions } from "./buffer.js";

/** The service has accepted records: they are durably queued, and will be stored exactly once. */
export interface Receipt {
  readonly datasetId: number;
  /** How many records were accepted. */
  readonly count: number;
  /**
   * The ID of the request or, after `send` with a large array, of the first request. The records of this request have
   * it as `__traceId`, unless the service had accepted an earlier attempt.
   */
  readonly requestId: string;
  /** The paths of the service's receipts: one path for each request. */
  readonly locations: readonly string[];
}

/** The options of a client that sends records. */
export interface IngestOptions<F extends Fields> extends TransportOptions, BufferOptions {
  /** The API key of the project. */
  readonly apiKey: string;
  /** What `defineDataset` has returned. */
  readonly dataset: Dataset<F>;
  /**
   * Called for each failure of enqueued records, with the JSON texts of these records. With this hook, an unhandled
   * promise of `enqueue` does not end the process.
   */
  readonly onError?: (error: DatasetError, records: readonly string[]) => void;
  /** Called for each accepted request, of `enqueue` and of `send`. */
  readonly onAccepted?: (receipt: Receipt) => void;
}
