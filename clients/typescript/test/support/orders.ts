import { DatasetIngestClient, defineDataset, type InferRecord, type IngestOptions } from "@dataset-ingest/client";

export const orders = defineDataset({ id: 7, fields: { country: "string", amount: "number", note: "string?" } });
export type Order = InferRecord<typeof orders>;

export function order(changes: Partial<Order> = {}): Order {
  return { timestamp: "2026-06-10T10:58:00Z", context: {}, country: "RO", amount: 12.5, ...changes };
}

export function clientOf(
  baseUrl: string,
  options: Partial<IngestOptions<typeof orders.fields>> = {},
): DatasetIngestClient<typeof orders.fields> {
  return new DatasetIngestClient({ baseUrl, apiKey: "key", dataset: orders, ...options });
}
