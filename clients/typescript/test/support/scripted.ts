// A server that gives the answers that a test wants, for failures that are rare in the real service.
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { gunzipSync } from "node:zlib";

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it sends
  readonly body: any;
}

export interface Scripted {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
}

export type Script = (request: Received, number: number) => Scripted | "hang up" | Promise<Scripted | "hang up">;

/** The answer of the service to accepted records. */
export const ACCEPTED: Scripted = {
  status: 202,
  headers: { Location: "/datasets/7/receipts/r", "X-Request-Id": "req-1" },
  body: { success: true, status: "queued" },
};

/** Start a server for a test. Return its address and the requests that it receives. */
export async function scripted(test: TestContext, script: Script): Promise<{ baseUrl: string; received: Received[] }> {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    const pieces: Uint8Array[] = [];
    for await (const piece of request) pieces.push(piece);
    const raw = Buffer.concat(pieces);
    const text = (request.headers["content-encoding"] === "gzip" ? gunzipSync(raw) : raw).toString();
    const said = { path: request.url ?? "", headers: request.headers, text, body: text ? JSON.parse(text) : undefined };
    const answer = await script(said, received.push(said) - 1);
    if (answer === "hang up") return request.socket.destroy();
    response.writeHead(answer.status, answer.headers);
    return response.end(JSON.stringify(answer.body ?? {}));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  test.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received };
}
