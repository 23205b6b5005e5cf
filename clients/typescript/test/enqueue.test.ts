import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { BufferFullError, ClosedError, type DatasetError, type Receipt, ValidationError } from "@dataset-ingest/client";
import { TestClock } from "./support/clock.js";
import { clientOf, type Order, order } from "./support/orders.js";
import { ACCEPTED, type Received, type Scripted, scripted } from "./support/scripted.js";

const INVALID = { ...order(), amount: "x" } as unknown as Order;

function amounts(received: readonly Received[]): number[][] {
  return received.map((each) => each.body.map((record: Order) => record.amount));
}

/** Let the event loop run until `isDone()` is true. The test's clock does not move. */
async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await setImmediate();
}

test("a batch is sent when it has maxBatchRecords", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl, { maxBatchRecords: 2, clock: new TestClock() });
  const receipts = await Promise.all([1, 2, 3, 4].map((amount) => client.enqueue(order({ amount }))));
  assert.deepEqual(
    receipts.map((each) => each.count),
    [2, 2, 2, 2],
  );
  assert.deepEqual(amounts(received).sort(), [
    [1, 2],
    [3, 4],
  ]);
});

test("a batch is sent before it has more than maxBatchBytes", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl, { maxBatchBytes: 250, clock: new TestClock() });
  for (const amount of [1, 2, 3]) void client.enqueue(order({ amount })); // 77 bytes each
  void client.enqueue(order({ amount: 4, note: "x".repeat(500) }));
  await client.flush();
  assert.deepEqual(amounts(received).sort(), [[1, 2, 3], [4]]);
});

test("a batch is sent after flushIntervalMs", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const clock = new TestClock();
  const sent = clientOf(baseUrl, { clock, flushIntervalMs: 500 }).enqueue(order());
  clock.pass(499);
  await setImmediate();
  assert.equal(received.length, 0);
  clock.pass(1);
  await sent;
});

test("flush refuses an unknown until", async () => {
  const wrong = { until: "nope" as "stored" };
  const refusal = { name: "TypeError", message: 'until must be "accepted" or "stored".' };
  await assert.rejects(clientOf("http://127.0.0.1:9").flush(wrong), refusal);
});

test("flush resolves after the answers, and not before", async (t) => {
  let answer = (_: Scripted): void => {};
  const { baseUrl, received } = await scripted(
    t,
    () =>
      new Promise((resolve) => {
        answer = resolve;
      }),
  );
  const client = clientOf(baseUrl);
  const settled: unknown[] = [];
  client.enqueue(order()).then((receipt) => settled.push(receipt));
  const flushed = client.flush().then(() => settled.push("flushed"));
  await until(() => received.length === 1);
  assert.deepEqual(settled, []);
  answer(ACCEPTED);
  await flushed;
  assert.equal(settled.length, 2);
  assert.deepEqual(settled[1], "flushed");
});

test("flush does not wait for records that are enqueued later", async (t) => {
  const { baseUrl } = await scripted(t, ({ body }) => (body[0].amount === 2 ? new Promise(() => {}) : ACCEPTED));
  const client = clientOf(baseUrl, { maxRetries: 0 });
  void client.enqueue(order({ amount: 1 }));
  const flushed = client.flush();
  client.enqueue(order({ amount: 2 })).catch(() => {});
  await flushed;
});

test("flush rejects after timeoutMs, and the records are still sent", async (t) => {
  let answer = (_: Scripted): void => {};
  const { baseUrl, received } = await scripted(
    t,
    () =>
      new Promise((resolve) => {
        answer = resolve;
      }),
  );
  const client = clientOf(baseUrl);
  const sent = client.enqueue(order());
  await assert.rejects(client.flush({ timeoutMs: 20 }), (error: DatasetError) => error.code === "flush_timeout");
  await until(() => received.length === 1);
  answer(ACCEPTED);
  await sent;
});

test("flush until stored asks for the receipts", async (t) => {
  const states = ["queued", "queued", "stored"];
  const { baseUrl, received } = await scripted(t, ({ path }) =>
    path.includes("receipts") ? { status: 200, body: { status: states.shift() } } : ACCEPTED,
  );
  const client = clientOf(baseUrl);
  void client.enqueue(order());
  await client.flush({ until: "stored" });
  assert.deepEqual(
    received.slice(1).map((each) => each.path),
    Array(3).fill("/datasets/7/receipts/r"),
  );
  await client.flush({ until: "stored" });
  assert.equal(received.length, 4);
});

test("records in quarantine are not stored", async (t) => {
  const { baseUrl } = await scripted(t, ({ path }) =>
    path.includes("receipts") ? { status: 200, body: { status: "quarantined" } } : ACCEPTED,
  );
  const client = clientOf(baseUrl);
  await client.send(order());
  await assert.rejects(client.flush({ until: "stored" }), (error: DatasetError) => error.code === "quarantined");
});

test("close sends what is enqueued, and refuses more", async (t) => {
  const { baseUrl } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl);
  const sent = client.enqueue(order());
  await client.close();
  assert.equal((await sent).count, 1);
  await assert.rejects(client.enqueue(order()), (error) => error instanceof ClosedError);
  await assert.rejects(client.send(order()), (error) => error instanceof ClosedError);
});

test("an invalid record is refused alone, with its position", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl);
  const settled = Promise.allSettled([client.enqueue(order()), client.enqueue(INVALID), client.enqueue(order())]);
  await client.flush();
  const [first, second, third] = await settled;
  assert.deepEqual([first?.status, second?.status, third?.status], ["fulfilled", "rejected", "fulfilled"]);
  const error = (second as PromiseRejectedResult).reason;
  assert.ok(error instanceof ValidationError);
  assert.equal(error.message, "Invalid number field: amount (dataset 7, record 1)");
  assert.equal(received[0]?.body.length, 2);
});

test("the good records of a refused batch are sent again", async (t) => {
  const { baseUrl, received } = await scripted(t, ({ body }) => {
    const bad = body.findIndex((each: Order) => each.amount === 13);
    if (bad < 0) return ACCEPTED;
    const errors = [{ index: bad, error: "Invalid number field: amount", code: "invalid_field", field: "amount" }];
    return { status: 400, body: { ...errors[0], errors } };
  });
  const failed: [string, string[]][] = [];
  const onError = (error: DatasetError, records: readonly string[]): void => {
    failed.push([error.message, records.map((each) => JSON.parse(each).amount)]);
  };
  const client = clientOf(baseUrl, { onError });
  const settled = Promise.allSettled([1, 13, 2, 13, 3].map((amount) => client.enqueue(order({ amount }))));
  await client.flush();
  const states = (await settled).map((each) => each.status === "fulfilled");
  assert.deepEqual(states, [true, false, true, false, true]);
  assert.deepEqual(
    failed.map(([, records]) => records),
    [[13], [13]],
  );
  assert.match(failed[1]?.[0] ?? "", /dataset 7, record 3/);
  assert.deepEqual(amounts(received).at(-1), [1, 2, 3]);
});

test("a batch that is too large is halved", async (t) => {
  const tooLarge = { status: 413, body: { error: "Request body too large", code: "body_too_large" } };
  const { baseUrl, received } = await scripted(t, ({ body }) => (body.length > 2 ? tooLarge : ACCEPTED));
  const client = clientOf(baseUrl);
  const sent = Promise.all([1, 2, 3, 4, 5].map((amount) => client.enqueue(order({ amount }))));
  await client.flush();
  assert.equal((await sent).length, 5);
  assert.deepEqual(
    amounts(received)
      .filter((each) => each.length <= 2)
      .sort(),
    [[1, 2], [3], [4, 5]],
  );
});

test("a failed batch does not stop the next one", async (t) => {
  const refusal = { status: 404, body: { error: "Dataset schema not found", code: "dataset_schema_not_found" } };
  const { baseUrl } = await scripted(t, (_, number) => (number ? ACCEPTED : refusal));
  const client = clientOf(baseUrl);
  const lost = client.enqueue(order());
  void lost.catch(() => {});
  await client.flush();
  await assert.rejects(
    lost,
    (error: DatasetError) => error.code === "dataset_schema_not_found" && error.indexes[0] === 0,
  );
  const sent = client.enqueue(order());
  await client.flush();
  assert.equal((await sent).count, 1);
});

test("enqueue rejects the record if the buffer is full", async (t) => {
  const { baseUrl } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl, { maxBufferedBytes: 200 });
  const all = Promise.allSettled([1, 2, 3, 4].map((amount) => client.enqueue(order({ amount }))));
  await client.flush();
  const rejected = (await all).filter((each) => each.status === "rejected");
  assert.equal(rejected.length, 2);
  assert.ok(rejected.every((each) => each.reason instanceof BufferFullError));
  assert.match(rejected[0]?.reason.message, /maxBufferedBytes is 200/);
  assert.equal((await Promise.all([client.enqueue(order()), client.flush()]))[0].count, 1);
});

test("with onOverflow block, records wait for room, in their order", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl, { maxBufferedBytes: 200, onOverflow: "block", maxConcurrentRequests: 1 });
  const sent: Promise<Receipt>[] = [];
  for (let amount = 0; amount < 20; amount++) {
    sent.push(client.enqueue(order({ amount })));
    if (amount > 9) await client.room();
  }
  await client.flush();
  assert.equal((await Promise.all(sent)).length, 20);
  assert.deepEqual(amounts(received).flat(), [...Array(20).keys()]);
  assert.ok(received.every((each) => each.text.length <= 210));
  await assert.rejects(client.enqueue(order({ note: "x".repeat(200) })), (error) => error instanceof BufferFullError);
});

test("at most maxConcurrentRequests requests run at the same time", async (t) => {
  let most = 0;
  let now = 0;
  const { baseUrl, received } = await scripted(t, async () => {
    most = Math.max(most, ++now);
    await setImmediate();
    now--;
    return ACCEPTED;
  });
  const client = clientOf(baseUrl, { maxBatchRecords: 1, maxConcurrentRequests: 3 });
  await Promise.all([...Array(30).keys()].map((amount) => client.enqueue(order({ amount }))));
  assert.equal(received.length, 30);
  assert.ok(most <= 3, `${most}`);
});

test("hooks are called for batches, and an error in a hook stops nothing", async (t) => {
  const { baseUrl } = await scripted(t, () => ACCEPTED);
  const counts: number[] = [];
  const printed = t.mock.method(console, "error", () => {});
  const client = clientOf(baseUrl, {
    onAccepted: ({ count }) => {
      counts.push(count);
      throw new Error("from the hook");
    },
  });
  void client.enqueue(order());
  await client.flush();
  await client.send([order(), order()]);
  assert.deepEqual(counts, [1, 2]);
  assert.match(String(printed.mock.calls[0]?.arguments[0]), /from the hook/);
});

test("batches stay full while records are enqueued faster than they are sent", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl, { maxBatchRecords: 50, maxBufferedBytes: 20_000, onOverflow: "block" });
  for (let index = 0; index < 2000; index++) {
    void client.enqueue(order());
    if (index % 7 === 0) await client.room();
  }
  await client.flush();
  assert.ok(received.length <= 42, `${received.length} requests`);
});
