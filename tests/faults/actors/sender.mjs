// Enqueue numbered records until a line arrives on standard input. Print each record's fate as a line of JSON.
// Its counterpart is python_sender.py.
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { DatasetIngestClient, defineDataset } from "@dataset-ingest/client";

const { url, key, dataset: id, fields, values, name, retrySeconds, ...settings } = JSON.parse(process.argv[2]);
const client = new DatasetIngestClient({
  baseUrl: url,
  apiKey: key,
  dataset: defineDataset({ id, fields }),
  maxBatchRecords: 50,
  flushIntervalMs: 50,
  maxBackoffMs: 1000,
  requestTimeoutMs: 4000,
  maxRetries: 10_000,
  retryForMs: 1000 * retrySeconds,
  onError: () => {},
});
let sequence = settings.sequence;
let unsettled = 0;
let isStopped = false;
createInterface({ input: process.stdin })
  .on("line", () => {
    isStopped = true;
  })
  .on("close", () => process.exit()); // the fault run, which gives us our input, has ended

function say(...words) {
  console.log(JSON.stringify(words));
}

function enqueue(number) {
  const noise = crypto.randomUUID();
  const record = { timestamp: new Date(), context: { by: name, noise }, client: name, sequence: number, ...values };
  unsettled++;
  client.enqueue(record).then(
    () => {
      unsettled--;
      say("accepted", number);
    },
    (error) => {
      unsettled--;
      say("refused", number, error.name, error.code);
    },
  );
}

while (!isStopped) {
  const end = sequence + 1 + Math.floor(40 * Math.random());
  // The clock is that of Python's time.monotonic().
  say("begun", sequence, end, Number(process.hrtime.bigint()) / 1e9);
  while (sequence < end) enqueue(sequence++);
  await setTimeout(100 + 500 * Math.random());
}
await client.close();
say("closed", unsettled);
process.exit();
