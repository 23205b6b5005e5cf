import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import {
  AuthenticationError,
  DatasetError,
  DatasetIngestClient,
  DatasetQueryClient,
  defineDataset,
  type Json,
  OutcomeUnknownError,
  QuotaExceededError,
  RateLimitedError,
  ServiceUnavailableError,
  ValidationError,
  validate,
} from "@dataset-ingest/client";
import { TestClock } from "./support/clock.js";
import { clientOf, type Order, order, orders } from "./support/orders.js";
import { ACCEPTED, type Scripted, scripted } from "./support/scripted.js";

const FULL: Scripted = { status: 503, body: { error: "Ingest queue is full", code: "queue_full" } };

test("a record is sent alone, and an array as a batch", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(`${baseUrl}/`);
  const receipt = await client.send(order());
  assert.deepEqual(receipt, { datasetId: 7, count: 1, requestId: "req-1", locations: ["/datasets/7/receipts/r"] });
  assert.equal((await client.send([order(), order({ note: "x" })])).count, 2);
  assert.deepEqual(
    received.map((each) => each.path),
    ["/datasets/7", "/datasets/7/batch"],
  );
  assert.deepEqual(received[0]?.body, order());
  assert.equal(received[0]?.headers.authorization, "Bearer key");
  assert.equal(received[0]?.headers["content-type"], "application/json");
});

test("dates and bigints are sent in the form that the service reads", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl);
  await client.send(order({ timestamp: new Date(0), context: { big: 2n ** 60n, none: undefined, list: [1n, null] } }));
  assert.match(
    received[0]?.text ?? "",
    /"timestamp":"1970-01-01T00:00:00.000Z","context":\{"big":1152921504606846976,"list":\[1,null\]\}/,
  );
});

test("an invalid record is refused without a request", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const wrong = { ...order(), amount: "12.5", extra: 1 } as unknown as Order;
  const failure = await clientOf(baseUrl)
    .send([order(), wrong])
    .catch((error) => error);
  assert.ok(failure instanceof ValidationError);
  assert.equal(failure.message, "Extra field: extra (dataset 7, record 1)");
  assert.deepEqual(
    [failure.code, failure.status, failure.datasetId, failure.indexes],
    ["extra_field", undefined, 7, [1]],
  );
  assert.deepEqual(failure.problems[1], {
    index: 1,
    error: "Invalid number field: amount",
    code: "invalid_field",
    field: "amount",
    expected: "number",
    received: "string",
  });
  await assert.rejects(clientOf(baseUrl).send([]), /Batch body must be a non-empty array/);
  assert.equal(received.length, 0);
});

test("a value that JSON would change is refused", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const dataset = defineDataset({ id: 7, fields: { ...orders.fields, any: "json" } });
  const client = new DatasetIngestClient({ baseUrl, apiKey: "key", dataset });
  const wrong: Record<string, unknown> = {
    NaN: Number.NaN,
    "-Infinity": Number.NEGATIVE_INFINITY,
    Function: () => {},
    Symbol: Symbol("s"),
    Map: new Map([["a", 1]]),
    Set: new Set([1]),
    Uint8Array: new Uint8Array(2),
    RegExp: /a/,
    Error: new Error("no"),
    Date: new Date(Number.NaN),
    Object: { toJSON: () => null },
  };
  for (const [key, value] of Object.entries(wrong)) {
    const name = typeof value === "number" ? key : `[object ${key}]`;
    const values = { any: value, "any.a.b": { a: { b: value } }, "any[1]": [1n, value], "any[0].c": [{ c: value }] };
    for (const [place, any] of Object.entries(values)) {
      await assert.rejects(client.send({ ...order(), any: any as Json }), {
        name: "ValidationError",
        code: "invalid_json",
        message: `Invalid JSON body: ${place} is not a JSON value: ${name}. (dataset 7, record 0)`,
      });
    }
    const context = { list: ["x", value] };
    const detail = `context.list[1] is not a JSON value: ${name}.`;
    await assert.rejects(clientOf(baseUrl).send([order(), order({ context })]), (error: ValidationError) => {
      return error.problems[0]?.detail === detail && error.problems[0].index === 1;
    });
    await assert.rejects(clientOf(baseUrl).enqueue(order({ context })), (error: ValidationError) => {
      return error.problems[0]?.detail === detail;
    });
  }
  const holes = new Array(2);
  for (const list of [[undefined], holes])
    await assert.rejects(
      clientOf(baseUrl).send(order({ context: { list } })),
      /context.list\[0\] .*: \[object Undefined\]\./,
    );
  assert.equal(received.length, 0);
});

test("a value that JSON would change is refused at each place where the schema accepts its text", () => {
  const dataset = defineDataset({ id: 7, fields: { at: "timestamp?", list: "string[]?", any: "json?" } });
  const record = { timestamp: "2026-06-10T10:58:00Z", context: {} };
  const wrong: [unknown, string][] = [
    [{ ...record, at: new Date(Number.NaN) }, "at is not a JSON value: [object Date]."],
    [{ ...record, list: new Array(1) }, "list[0] is not a JSON value: [object Undefined]."],
    [{ ...record, any: { toJSON: () => undefined } }, "any is not a JSON value: [object Object]."],
    [{ ...record, any: [{ toJSON: () => undefined }] }, "any[0] is not a JSON value: [object Object]."],
    [{ ...record, extra: Number.NaN }, "extra is not a JSON value: NaN."],
    [Object.assign(new Map([["list", ["a"]]]), record), "is not a JSON value: [object Map]."],
    [{ ...record, context: new Map() }, "context is not a JSON value: [object Map]."],
  ];
  for (const [value, detail] of wrong) {
    const { problems } = validate(dataset, value);
    assert.deepEqual(problems, [{ error: "Invalid JSON body", code: "invalid_json", detail }]);
  }
});

test("objects of a class and members that are undefined are sent", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  class Source {
    readonly name = "billing";
    readonly none = undefined;
  }
  const bare = Object.assign(Object.create(null), { a: [null, -1.5, true] });
  await clientOf(baseUrl).send(order({ context: { source: new Source(), bare, at: new Date(0) } }));
  const context = { source: { name: "billing" }, bare: { a: [null, -1.5, true] }, at: "1970-01-01T00:00:00.000Z" };
  assert.deepEqual(received[0]?.body.context, context);
});

test("a text may be as long as the service allows", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  const client = clientOf(baseUrl, { gzip: false });
  const note = "{".repeat(11_000_000);
  await client.send(order({ note }));
  await client.enqueue(order({ note }));
  assert.ok(received.every(({ body }) => [body].flat()[0].note === note));
  const escaped = "\\".repeat(500_000);
  await client.send(order({ note: `${escaped}ud800` }));
  await assert.rejects(client.send(order({ note: `${escaped}\ud800` })), /A text has a lone surrogate/);
});

test("bodies above 1 KiB are compressed", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  await clientOf(baseUrl).send(order({ note: "x".repeat(800) }));
  await clientOf(baseUrl).send(order({ note: "x".repeat(2000) }));
  await clientOf(baseUrl, { gzip: false }).send(order({ note: "x".repeat(2000) }));
  assert.deepEqual(
    received.map((each) => each.headers["content-encoding"]),
    [undefined, "gzip", undefined],
  );
  assert.equal(received[1]?.body.note.length, 2000);
});

test("a request is repeated with its Idempotency-Key until it is accepted", async (t) => {
  const failures: (Scripted | "hang up")[] = [
    "hang up",
    ...[408, 409, 425, 429, 500, 502, 503].map((status) => ({ status })),
    FULL,
  ];
  const { baseUrl, received } = await scripted(t, (_, number) => failures[number] ?? ACCEPTED);
  const clock = new TestClock(30_000);
  await clientOf(baseUrl, { clock, maxRetries: 9 }).send(order());
  assert.equal(received.length, 10);
  assert.equal(new Set(received.map((each) => each.headers["idempotency-key"])).size, 1);
  const waits = clock.waits.filter((ms) => ms !== 30_000); // 30,000 is the time limit of an attempt
  assert.ok(waits.every((ms, index) => ms <= 250 * 2 ** index));
});

test("two calls have two Idempotency-Keys", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  await Promise.all([clientOf(baseUrl).send(order()), clientOf(baseUrl).send(order())]);
  assert.notEqual(received[0]?.headers["idempotency-key"], received[1]?.headers["idempotency-key"]);
});

test("the client waits for the time of Retry-After", async (t) => {
  const { baseUrl } = await scripted(t, (_, number) =>
    number ? ACCEPTED : { ...FULL, headers: { "Retry-After": "7" } },
  );
  const clock = new TestClock(20_000);
  await clientOf(baseUrl, { clock }).send(order());
  const [wait = 0] = clock.waits.filter((ms) => ms !== 30_000);
  assert.ok(wait >= 7000 && wait < 7250, `${wait}`);
});

test("the client does not begin a wait that would end after retryForMs", async (t) => {
  const quota = { limit: 5, used: 5, requested: 1, remaining: 0, period: "2026-11", resets_at: "2026-12-01T00:00:00Z" };
  const body = { error: "Monthly dataset quota exceeded", code: "quota_exceeded", quota };
  const { baseUrl, received } = await scripted(t, () => ({ status: 429, headers: { "Retry-After": "3600" }, body }));
  const failure = await clientOf(baseUrl)
    .send(order())
    .catch((error) => error);
  assert.ok(failure instanceof QuotaExceededError);
  assert.deepEqual(
    [failure.quota?.limit, failure.resetsAt, failure.retryAfterMs],
    [5, new Date("2026-12-01"), 3_600_000],
  );
  assert.equal(received.length, 1);
});

test("each refusal has an error class", async (t) => {
  const refusals: Record<number, typeof DatasetError> = {
    400: ValidationError,
    401: AuthenticationError,
    403: AuthenticationError,
    404: DatasetError,
    422: DatasetError,
    429: RateLimitedError,
    503: ServiceUnavailableError,
  };
  let status = 0;
  const headers = { "X-Request-Id": "req-9" };
  const { baseUrl } = await scripted(t, () => ({
    status,
    headers,
    body: { error: "No", code: status === 503 ? "queue_full" : "no" },
  }));
  for (const [each, kind] of Object.entries(refusals)) {
    status = Number(each);
    const failure = await clientOf(baseUrl, { maxRetries: 0 })
      .send(order())
      .catch((error) => error);
    assert.equal(failure.constructor, kind, each);
    assert.deepEqual(
      [failure.status, failure.requestId, failure.datasetId, failure.indexes],
      [status, "req-9", 7, [0]],
    );
    assert.equal(failure.message, "No (dataset 7, record 0, request req-9)");
  }
});

test("while the service processes an earlier attempt, the outcome is unknown", async (t) => {
  const inProgress = { status: 409, body: { error: "No", code: "idempotency_key_in_progress" } };
  const { baseUrl } = await scripted(t, (_, number) => (number === 0 ? "hang up" : inProgress));
  const client = clientOf(baseUrl, { maxRetries: 2, clock: new TestClock(30_000) });
  for (let count = 0; count < 2; count++)
    await assert.rejects(client.send(order()), (error) => error instanceof OutcomeUnknownError);
});

test("without a certain answer, the outcome is unknown", async (t) => {
  const script: (Scripted | "hang up")[] = [
    "hang up",
    FULL,
    "hang up",
    { status: 401, body: { error: "No", code: "no" } },
  ];
  const { baseUrl } = await scripted(t, (_, number) => script[number] ?? "hang up");
  const client = clientOf(baseUrl, { maxRetries: 1, clock: new TestClock(30_000) });
  // The queue is full: the service looks for the first attempt before this refusal.
  await assert.rejects(client.send(order()), (error) => error instanceof ServiceUnavailableError);
  // The key is refused before the service looks for the first attempt.
  await assert.rejects(client.send(order()), (error: OutcomeUnknownError) => {
    return error instanceof OutcomeUnknownError && error.cause instanceof AuthenticationError;
  });
});

test("a service that cannot be reached has certainly accepted nothing", async () => {
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  const { port } = closed.address() as AddressInfo;
  closed.close();
  const client = clientOf(`http://127.0.0.1:${port}`, { maxRetries: 1, clock: new TestClock(30_000) });
  const failure = await client.send(order()).catch((error) => error);
  assert.ok(failure instanceof ServiceUnavailableError, failure);
  assert.equal(failure.code, "no_answer");
});

test("the client cancels an attempt without an answer", async (t) => {
  const clock = new TestClock(30_000);
  const { baseUrl, received } = await scripted(t, async (_, number) => {
    if (number) return ACCEPTED;
    clock.pass(30_000);
    return new Promise(() => {});
  });
  await clientOf(baseUrl, { clock, maxRetries: 1 }).send(order());
  assert.equal(received.length, 2);
});

test("an array above the service's limit is split", async (t) => {
  const { baseUrl, received } = await scripted(t, ({ body }) => {
    return body.length > 3
      ? { status: 413, body: { error: "Too many", code: "too_many_records", limit: 3 } }
      : ACCEPTED;
  });
  const receipt = await clientOf(baseUrl).send(Array.from({ length: 10 }, (_, index) => order({ amount: index })));
  assert.equal(receipt.count, 10);
  assert.equal(receipt.locations.length, 4);
  const accepted = received.filter((each) => each.body.length <= 3).flatMap((each) => each.body);
  assert.deepEqual(
    accepted.map((each) => each.amount),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
});

test("an error names the records of the call that were not accepted", async (t) => {
  const { baseUrl } = await scripted(t, ({ body }, number) => {
    if (body.length > 2) return { status: 413, body: { error: "Too many", code: "too_many_records" } };
    const errors = [{ index: 1, error: "Missing field: x", code: "missing_field", field: "x" }];
    return number === 2 ? { status: 400, body: { ...errors[0], errors } } : ACCEPTED;
  });
  const failure = await clientOf(baseUrl)
    .send([order(), order(), order(), order()])
    .catch((error) => error);
  assert.ok(failure instanceof ValidationError);
  assert.deepEqual(
    failure.problems.map((each) => each.index),
    [3],
  );
  assert.deepEqual(failure.indexes, [2, 3]);
});

test("a wrong address or key is refused immediately", async (t) => {
  const { baseUrl, received } = await scripted(t, () => ACCEPTED);
  for (const wrong of ["localhost:8000", "", "ftp://localhost", "http://", undefined as unknown as string]) {
    const isTold = wrong === "http://" ? /Invalid URL/ : /^TypeError: baseUrl must begin with http:\/\/ or https:\/\//;
    assert.throws(() => clientOf(wrong), isTold);
    assert.throws(() => new DatasetQueryClient({ baseUrl: wrong, token: "pat_1", project: "shop" }), TypeError);
  }
  for (const apiKey of ["", " ", "ключ", "a\nb", undefined as unknown as string])
    assert.throws(() => clientOf(baseUrl, { apiKey }), /^TypeError: An API key or a token is a text of visible ASCII/);
  await clientOf(baseUrl.replace("http", "HTTP"), { apiKey: "key\n" }).send(order());
  assert.equal(received[0]?.headers.authorization, "Bearer key");
});
