// Create a dataset, register its schema, send records and query them. Print the result of each step.
import {
  bucket,
  count,
  DatasetError,
  DatasetIngestClient,
  DatasetQueryClient,
  defineDataset,
  sum,
} from "@dataset-ingest/client";

const [baseUrl, token, apiKey, project] = process.argv.slice(2);
const manager = new DatasetQueryClient({ baseUrl, token, project });
const { id, status } = await manager.createDataset({ name: "Orders" });
const renamed = await manager.updateDataset(id, { description: "from the shop" });
const fields = {
  country: "string",
  amount: "number",
  price: "decimal(10,2)",
  extra: "json?",
  moments: "timestamp[]",
  big: { type: "integer", minimum: 1n },
};
const orders = defineDataset({ id, fields });
const registered = [await manager.register(orders), await manager.register(orders)];
const listed = await manager.listDatasets();

const client = new DatasetIngestClient({ baseUrl, apiKey, dataset: orders });
const timestamp = new Date("2026-06-10T10:58:00.120Z");
for (const [country, amount] of [["RO", 10], ["RO", 30], ["DE", 50]]) {
  const record = { timestamp, context: { a: 1 }, country, amount, price: "0.10", moments: [timestamp], big: 2n };
  client.enqueue({ ...record, extra: { b: [1] } });
}
await client.flush({ until: "stored" });

const june = manager.from(orders).range("2026-06-01T00:00:00Z", new Date("2026-06-30T00:00:00Z"));
const grouped = await june
  .select("country", count().as("events"), sum("amount"), bucket("day"))
  .where("amount", ">", 20)
  .groupBy("country", "day")
  .orderBy("events", "desc")
  .orderBy("country")
  .limit(10)
  .run();
const plain = june.select("timestamp", "price", "extra", "moments", "big", "context").orderBy("amount").limit(2);
const first = await plain.run();
const second = await plain.after(first.cursor).run();
const counted = await june.run();
const wrong = await june
  .where("amount", "contains", 1)
  .run()
  .catch((error) => error);

console.log(
  JSON.stringify({
    status,
    renamed: renamed.description,
    registered,
    listed: listed.map((each) => each.name),
    grouped: grouped.rows,
    plain: first.rows[0],
    pages: [first.row_count, first.truncated, second.row_count],
    counted: counted.rows,
    wrong: [wrong instanceof DatasetError, wrong.status, wrong.code, wrong.problems[0].at],
  }),
);
