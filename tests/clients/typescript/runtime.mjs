// Enqueue a record, and wait until it is stored. Print how it was accepted, and how a bad record is refused.
// The last record is not awaited: the client sends it when the program ends by itself.
import { DatasetIngestClient, defineDataset, ValidationError } from "@dataset-ingest/client";

const [baseUrl, apiKey, id] = process.argv.slice(2);
const dataset = defineDataset({ id: Number(id), fields: { number: "integer", text: "string" } });
const client = new DatasetIngestClient({ baseUrl, apiKey, dataset });
const record = { timestamp: new Date(), context: { source: "runtime" }, number: 1, text: "x".repeat(2000) };
const delivery = client.enqueue(record);
await client.flush({ until: "stored" });
const { count } = await delivery;
const error = await client.send({ ...record, number: "1" }).catch((error) => error);
console.log(JSON.stringify({ count, isInvalid: error instanceof ValidationError, problems: error.problems }));
client.enqueue({ ...record, number: 2, text: "last" });
