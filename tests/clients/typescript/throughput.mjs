// Enqueue records from one process for a second, and then for the given seconds. Print how many records were accepted
// in the second part, and how many seconds and how much CPU time it took.
import { DatasetIngestClient, defineDataset } from "@dataset-ingest/client";

const [baseUrl, apiKey, id, seconds, form] = process.argv.slice(2);
const fields = { country: "string", plan: "string", amount: "number", active: "boolean", signup_at: "timestamp" };
const client = new DatasetIngestClient({
  baseUrl,
  apiKey,
  dataset: defineDataset({ id: Number(id), fields }),
  gzip: form === "gzip",
  maxBufferedBytes: 1024 * 1024,
  onOverflow: "block",
});
const record = {
  timestamp: "2026-06-10T10:58:00Z",
  context: { source: "billing-service", request_id: "req_123" },
  country: "RO",
  plan: "pro",
  amount: 42.5,
  active: true,
  signup_at: "2026-06-01T08:00:00Z",
};
let accepted = 0;
const accept = () => {
  accepted++;
};
// The rate of a client that would check nothing and return no promises: four loops that write JSON and call fetch.
async function fetchFor(ms) {
  const end = performance.now() + ms;
  const headers = { Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json" };
  async function loop() {
    while (performance.now() < end) {
      const texts = Array.from({ length: 500 }, (_, index) => JSON.stringify({ ...record, amount: index / 2 }));
      headers["Idempotency-Key"] = crypto.randomUUID();
      const answer = await fetch(`${baseUrl}/datasets/${id}/batch`, { method: "POST", headers, body: `[${texts}]` });
      if (answer.status !== 202) throw new Error(await answer.text());
      await answer.text();
      accepted += 500;
    }
  }
  await Promise.all([loop(), loop(), loop(), loop()]);
}
async function enqueueFor(ms) {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    for (let index = 0; index < 500; index++) client.enqueue({ ...record, amount: index / 2 }).then(accept);
    await client.room();
  }
  await client.flush();
}
const sendFor = form === "fetch" ? fetchFor : enqueueFor;
await sendFor(1000); // until Node.js has compiled what runs often
accepted = 0;
const began = performance.now();
const used = process.cpuUsage();
await sendFor(1000 * Number(seconds));
const { user, system } = process.cpuUsage(used);
console.log(JSON.stringify({ count: accepted, seconds: (performance.now() - began) / 1000, cpu: (user + system) / 1e6 }));
