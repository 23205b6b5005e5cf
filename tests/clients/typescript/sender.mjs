// Enqueue numbered records. Print "accepted" when the first one is accepted. After each line "again", print "accepted"
// when a record that was enqueued after this line is accepted. On "stop", close the client, and print each record's
// fate.
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { DatasetIngestClient, defineDataset } from "@dataset-ingest/client";

const [baseUrl, apiKey, id, options = "{}"] = process.argv.slice(2);
const dataset = defineDataset({ id: Number(id), fields: { number: "integer", text: "string" } });
const client = new DatasetIngestClient({
  baseUrl,
  apiKey,
  dataset,
  maxBatchRecords: 50,
  flushIntervalMs: 20,
  maxBackoffMs: 500,
  maxRetries: 1000,
  onError: () => {},
  ...JSON.parse(options),
});
const accepted = [];
const refused = {};
const settled = [];
let number = 0;
let awaited = 0;
let isStopped = false;
const lines = createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "stop") isStopped = true;
  else awaited = number;
});

function accept(mine) {
  accepted.push(mine);
  if (mine < awaited) return;
  awaited = Infinity;
  console.log("accepted");
}

while (!isStopped) {
  const mine = number++;
  const timestamp = new Date();
  const delivery = client.enqueue({ timestamp, context: { source: "sender" }, number: mine, text: `record ${mine}` });
  settled.push(
    delivery.then(
      () => accept(mine),
      (error) => {
        const code = `${error.name} ${error.code}`;
        if (!refused[code]) console.log(`refused: ${code}`);
        (refused[code] ??= []).push(mine);
      },
    ),
  );
  if (mine % 20 === 0) await setTimeout(1);
}
await client.close();
await Promise.all(settled);
console.log(JSON.stringify({ sent: number, accepted, refused }));
lines.close();
