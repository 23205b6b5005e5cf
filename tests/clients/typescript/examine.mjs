// Read lines with a schema and JSON texts of records. For each text, print the text that the client would send for its
// value, and the problems that the client finds. Print null if JavaScript has no such value.
import { createInterface } from "node:readline";
import { defineDataset, explain, validate } from "@dataset-ingest/client";

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Parse JSON. An integer beyond 2^53 becomes a bigint. */
function parse(text) {
  const marked = text.replace(TOKENS, (token) =>
    /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `{"$bigint":"${token}"}` : token,
  );
  return JSON.parse(marked, (_, value) => (typeof value?.$bigint === "string" ? BigInt(value.$bigint) : value));
}

/** Write a value as JSON. Throw if JSON has no such number. */
function written(value) {
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError("beyond a double");
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(written).join(",")}]`;
  return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}:${written(each)}`).join(",")}}`;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { fields, texts } = JSON.parse(line);
  const dataset = defineDataset({ id: 1, fields, explain });
  const examined = texts.map((text) => {
    try {
      const value = parse(text);
      return Array.isArray(value) ? null : { sent: written(value), problems: validate(dataset, value).problems };
    } catch (error) {
      if (error instanceof SyntaxError || error instanceof RangeError) return null;
      throw error;
    }
  });
  console.log(JSON.stringify(examined));
}
