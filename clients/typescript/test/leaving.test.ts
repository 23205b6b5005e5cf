// These tests are about the end of a process or a page. They are in a file of their own, because a process sets the
// listeners only once.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { clientOf, order } from "./support/orders.js";
import { ACCEPTED, scripted } from "./support/scripted.js";

test("a process that ends by itself sends what is enqueued", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const program = `
    import { clientOf, order } from "${new URL("./support/orders.js", import.meta.url)}";
    const client = clientOf("${baseUrl}", { flushIntervalMs: 3_600_000 });
    for (let amount = 0; amount < 3; amount++) client.enqueue(order({ amount }));
  `;
  await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program]);
  assert.deepEqual(
    received.map((each) => each.body.length),
    [3],
  );
});

test("while a page is being closed, the client sends what a browser allows; later, it sends the rest", async () => {
  const listeners = new Map<string, () => void>();
  const addEventListener = (event: string, listener: () => void): unknown => listeners.set(event, listener);
  Object.assign(globalThis, { document: { visibilityState: "hidden" }, addEventListener });
  const sent: RequestInit[] = [];
  const client = clientOf("http://page", {
    fetch: async (_, init = {}) => {
      sent.push(init);
      return new Response("{}", { status: 202 });
    },
    gzip: false,
  });
  for (let index = 0; index < 100; index++) void client.enqueue(order({ note: "x".repeat(1000) }));
  listeners.get("pagehide")?.();
  assert.equal(sent[0]?.keepalive, true, "the request has begun when the listener returns");
  assert.ok(String(sent[0]?.body).length < 64 * 1024);
  await client.flush();
  const counts = sent.map((each) => JSON.parse(String(each.body)).length);
  assert.equal(counts.length, 2);
  assert.equal(counts[0] + counts[1], 100);
  void client.enqueue(order());
  listeners.get("visibilitychange")?.();
  assert.equal(sent.length, 3);
  await client.close();
});
