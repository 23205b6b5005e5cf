// Code that must compile, and code that must not: `tsc` fails if a line below `@ts-expect-error` has no error.
import { test } from "node:test";
import {
  bucket,
  count,
  DatasetIngestClient,
  DatasetQueryClient,
  defineDataset,
  type InferRecord,
  max,
  sum,
} from "@dataset-ingest/client";

const orders = defineDataset({
  id: 13,
  fields: {
    country: "string",
    amount: "number",
    active: "boolean",
    signup_at: "timestamp",
    order_id: "integer",
    price: "decimal(10,2)",
    day: "date",
    session: "uuid",
    extra: "json",
    tags: "string[]",
    moments: "timestamp[]?",
    note: "string?",
    state: { type: "enum", values: ["open", "paid"] },
    former: { type: "enum", values: ["a"], optional: true },
    limited: { type: "number?", minimum: 0 },
  },
});
type Order = InferRecord<typeof orders>;

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Expect<T extends true> = T;

export type Checks = [
  Expect<Equal<Order["timestamp"], string | Date>>,
  Expect<Equal<Order["country"], string>>,
  Expect<Equal<Order["amount"], number>>,
  Expect<Equal<Order["active"], boolean>>,
  Expect<Equal<Order["signup_at"], string | Date>>,
  Expect<Equal<Order["order_id"], number | bigint>>,
  Expect<Equal<Order["price"], number | string | bigint>>,
  Expect<Equal<Order["day"], string>>,
  Expect<Equal<Order["session"], string>>,
  Expect<Equal<Order["tags"], readonly string[]>>,
  Expect<Equal<Order["moments"], readonly (string | Date)[] | null | undefined>>,
  Expect<Equal<Order["note"], string | null | undefined>>,
  Expect<Equal<Order["state"], "open" | "paid">>,
  Expect<Equal<Order["former"], "a" | null | undefined>>,
  Expect<Equal<Order["limited"], number | null | undefined>>,
];

const order: Order = {
  timestamp: new Date(),
  context: { source: "types" },
  country: "RO",
  amount: 12.5,
  active: true,
  signup_at: "2026-06-01T08:00:00Z",
  order_id: 9007199254740993n,
  price: "12.50",
  day: "2026-06-10",
  session: "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
  extra: { any: [1, null] },
  tags: [],
  state: "open",
};

export function compiles(): void {
  const client = new DatasetIngestClient({ baseUrl: "http://localhost", apiKey: "key", dataset: orders });
  void client.send(order);
  void client.send([order, { ...order, note: null }]);
  void client.enqueue({ ...order, note: "x", former: "a" });
  // @ts-expect-error a field has another type
  void client.send({ ...order, amount: "12.5" });
  // @ts-expect-error a field is not declared
  void client.send({ ...order, unknown: 1 });
  // @ts-expect-error the enum does not have this value
  void client.enqueue({ ...order, state: "lost" });
  // @ts-expect-error a required field is null
  void client.enqueue({ ...order, country: null });
  const { country: _, ...incomplete } = order;
  // @ts-expect-error a field is missing
  void client.enqueue(incomplete);
  // @ts-expect-error an element has another type
  void client.enqueue({ ...order, tags: [1] });
  // @ts-expect-error there is no such type
  defineDataset({ id: 1, fields: { a: "text" } });
  // @ts-expect-error a decimal has two numbers
  defineDataset({ id: 1, fields: { a: "decimal(10)" } });
  // @ts-expect-error there is no such member
  defineDataset({ id: 1, fields: { a: { type: "number", least: 1 } } });
  // @ts-expect-error an enum has values
  defineDataset({ id: 1, fields: { a: { type: "enum" } } });
  // @ts-expect-error there is no such option
  new DatasetIngestClient({ baseUrl: "http://localhost", apiKey: "key", dataset: orders, batch: 1 });
  void client.flush({ until: "stored", timeoutMs: 1000 });
  // @ts-expect-error a flush waits for one of two states
  void client.flush({ until: "sent" });
}

test("types", () => {});

type RowsOf<Q> = Q extends { run(): Promise<{ readonly rows: readonly (infer R)[] }> } ? R : never;

export async function queries(): Promise<void> {
  const client = new DatasetQueryClient({ baseUrl: "http://localhost", token: "pat_x", project: "shop" });
  const all = client.from(orders);
  const grouped = all
    .select("country", count().as("events"), sum("amount"), max("signup_at").as("latest"), bucket("day"))
    .where("amount", ">", 20)
    .where("state", "in", ["open"])
    .where("tags", "contains", "new")
    .where("note", "is_null")
    .groupBy("country", "day")
    .orderBy("events", "desc")
    .range("2026-06-01T00:00:00Z", new Date())
    .limit(100);
  type Grouped = RowsOf<typeof grouped>;
  const plain = all.select("timestamp", "note", "price", "moments", "active", "former", "order_id", "__traceId");
  type Plain = RowsOf<typeof plain>;
  const checks: [
    Expect<Equal<Grouped["country"], string>>,
    Expect<Equal<Grouped["events"], number>>,
    Expect<Equal<Grouped["sum_amount"], number | null>>,
    Expect<Equal<Grouped["latest"], string | null>>,
    Expect<Equal<Grouped["day"], string>>,
    Expect<Equal<keyof Grouped, "country" | "events" | "sum_amount" | "latest" | "day">>,
    Expect<Equal<RowsOf<typeof all>["count"], number>>,
    Expect<Equal<Plain["timestamp"], string>>,
    Expect<Equal<Plain["note"], string | null>>,
    Expect<Equal<Plain["price"], number>>,
    Expect<Equal<Plain["moments"], readonly string[] | null>>,
    Expect<Equal<Plain["active"], boolean>>,
    Expect<Equal<Plain["former"], "a" | null>>,
  ] = [true, true, true, true, true, true, true, true, true, true, true, true, true];
  void checks;
  // @ts-expect-error there is no such field
  all.select("unknown");
  // @ts-expect-error there is no such field
  all.select(sum("unknown"));
  // @ts-expect-error a value has another type
  all.where("amount", ">", "20");
  // @ts-expect-error `in` takes an array
  all.where("country", "in", "RO");
  // @ts-expect-error context cannot be filtered
  all.where("context", "=", "x");
  // @ts-expect-error there is no such column in the result
  grouped.orderBy("unknown");
  // @ts-expect-error there is no such direction
  grouped.orderBy("events", "down");
}
