export type {
  Dataset,
  FieldDeclaration,
  FieldObject,
  Fields,
  InferRecord,
  Json,
  RecordOf,
  TypeName,
} from "./dataset.js";
export { defineDataset } from "./dataset.js";
export {
  AuthenticationError,
  BufferFullError,
  ClosedError,
  DatasetError,
  type ErrorBody,
  OutcomeUnknownError,
  type Quota,
  QuotaExceededError,
  RateLimitedError,
  ServiceUnavailableError,
  ValidationError,
} from "./errors.js";
export { DatasetIngestClient, type FlushOptions } from "./ingest/client.js";
export type { IngestOptions, Receipt } from "./ingest/options.js";
export {
  type DatasetChanges,
  type DatasetInfo,
  DatasetQueryClient,
  type NewDataset,
  type QueryOptions,
  type Registration,
} from "./queries/client.js";
export {
  type Aggregate,
  avg,
  type Bucket,
  bucket,
  count,
  countDistinct,
  max,
  median,
  min,
  p90,
  p95,
  p99,
  sum,
} from "./queries/outputs.js";
export { Query, type QueryResult } from "./queries/query.js";
export type { Clock, TransportOptions } from "./transport.js";
export { type Explain, explain } from "./validation/explain.js";
export type { Problem, Verdict } from "./validation/validate.js";
export { validate } from "./validation/validate.js";
