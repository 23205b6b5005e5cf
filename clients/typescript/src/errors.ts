import type { Problem } from "./validation/validate.js";

/** The quota of the project's owner, as an answer describes it. */
export interface Quota {
  readonly limit: number;
  readonly used: number;
  readonly requested: number;
  readonly remaining: number;
  readonly period: string;
  readonly resets_at: string;
}

/** The members of an error answer of the service. */
export interface ErrorBody {
  readonly error: string;
  readonly code: string;
  readonly detail?: string;
  readonly errors?: readonly Problem[];
  readonly truncated?: boolean;
  readonly quota?: Quota;
}

/** What is known about a failure. */
export interface Failure {
  readonly status?: number | undefined;
  readonly requestId?: string | undefined;
  readonly datasetId?: number | undefined;
  readonly indexes?: readonly number[] | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** The base of all errors of this package. */
export class DatasetError extends Error {
  override readonly name: string = "DatasetError";
  /** A stable name of the reason, such as `queue_full`. The service's docs/errors.md lists the codes of the service. */
  declare readonly code: string;
  /** The HTTP status, if the service has answered. */
  declare readonly status: number | undefined;
  /** The ID of the request. With it, the operator of the service can find the request. */
  declare readonly requestId: string | undefined;
  declare readonly datasetId: number | undefined;
  /** The positions, counted from 0, of the records that this error is about. */
  declare readonly indexes: readonly number[];
  /** How long the service asked to wait, in milliseconds. */
  declare readonly retryAfterMs: number | undefined;
  /** The answer of the service. If the client has found the error, this object has the same members as an answer. */
  declare readonly body: ErrorBody;

  constructor(body: ErrorBody, failure: Failure = {}) {
    super(messageOf(body, failure), { cause: failure.cause });
    this.body = body;
    this.code = body.code;
    this.status = failure.status;
    this.requestId = failure.requestId;
    this.datasetId = failure.datasetId;
    this.indexes = failure.indexes ?? [];
    this.retryAfterMs = failure.retryAfterMs;
  }

  /** Return the same error about other records. */
  about(indexes: readonly number[], body: ErrorBody = this.body): this {
    const kind = this.constructor as new (body: ErrorBody, failure: Failure) => this;
    return new kind(body, { ...this, cause: this.cause, indexes });
  }
}

function messageOf({ error, detail }: ErrorBody, { datasetId, indexes = [], requestId }: Failure): string {
  const where = [
    datasetId && `dataset ${datasetId}`,
    indexes.length === 1 ? `record ${indexes[0]}` : indexes.length && `${indexes.length} records`,
    requestId && `request ${requestId}`,
  ].filter(Boolean);
  return error + (detail ? `: ${detail}` : "") + (where.length ? ` (${where.join(", ")})` : "");
}

/** Records do not match the schema, or a query or a change is invalid. Nothing was sent, or the service refused it. */
export class ValidationError extends DatasetError {
  override readonly name = "ValidationError";

  /** The problems, in order: at most 20. */
  get problems(): readonly Problem[] {
    return this.body.errors ?? [this.body];
  }

  /** Whether there are more problems. */
  get truncated(): boolean {
    return this.body.truncated ?? false;
  }
}

/** The API key or the token is missing, wrong, expired or revoked, or does not allow the request. */
export class AuthenticationError extends DatasetError {
  override readonly name = "AuthenticationError";
}

/** The month's quota has no room for the records. Nothing was queued or charged. */
export class QuotaExceededError extends DatasetError {
  override readonly name = "QuotaExceededError";

  get quota(): Quota | undefined {
    return this.body.quota;
  }

  /** When the next month begins, with a new quota. */
  get resetsAt(): Date | undefined {
    return this.quota && new Date(this.quota.resets_at);
  }
}

/** The service has received too many requests. Wait for `retryAfterMs`. */
export class RateLimitedError extends DatasetError {
  override readonly name = "RateLimitedError";
}

/** The service could not accept the request. Nothing was queued or charged. */
export class ServiceUnavailableError extends DatasetError {
  override readonly name = "ServiceUnavailableError";
}

/** No answer says whether the records were accepted. If the program sends them again, they may be stored twice. */
export class OutcomeUnknownError extends DatasetError {
  override readonly name = "OutcomeUnknownError";
}

/** The client is closed. */
export class ClosedError extends DatasetError {
  override readonly name = "ClosedError";
}

/** The buffer has no room for the record (`maxBufferedBytes`). The record was not kept. */
export class BufferFullError extends DatasetError {
  override readonly name = "BufferFullError";
}

/** Return the error for an answer that is not a success. */
export function errorOf(body: ErrorBody, failure: Failure & { readonly status: number }): DatasetError {
  const { status } = failure;
  const { code } = body;
  if (status === 401 || status === 403) return new AuthenticationError(body, failure);
  if (code === "quota_exceeded") return new QuotaExceededError(body, failure);
  if (status === 429) return new RateLimitedError(body, failure);
  if (status >= 500 || status === 408 || status === 425) return new ServiceUnavailableError(body, failure);
  return new (status === 400 ? ValidationError : DatasetError)(body, failure);
}
