// Send records with a client that was generated from the service's description. `tsc` checks them against its types.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };

const [baseUrl, key, dataset] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const record: components["schemas"]["Record"] = {
  timestamp: "2026-06-10T10:58:00Z",
  context: { source: "typescript", tags: ["a", "b"] },
  text: "typescript",
  amount: 42.5,
  active: true,
};
const params = { path: { dataset_id: Number(dataset) } };
const one = await client.POST("/datasets/{dataset_id}", { params, body: record });
const batch = await client.POST("/datasets/{dataset_id}/batch", { params, body: [record, record] });
const refused = await client.POST("/datasets/{dataset_id}", { params, body: { ...record, amount: "42.5" } });
console.log(JSON.stringify([one.data?.status, batch.data?.count, refused.error?.error]));
