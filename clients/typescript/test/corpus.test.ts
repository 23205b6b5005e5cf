// For each case of the contract, the client gives the same answer as the service.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { defineDataset, explain, type Fields, type Problem, validate } from "@dataset-ingest/client";
import { parse } from "./support/parse.js";

interface Case {
  readonly name: string;
  readonly record?: string;
  readonly batch?: string;
  readonly errors?: readonly Problem[];
  readonly truncated?: boolean;
  readonly clients?: readonly string[];
}

interface Group {
  readonly schema: string;
  readonly fields: Fields;
  readonly cases: readonly Case[];
}

const FOLDER = join(import.meta.dirname, "../../../tests/contract");

/** Return problems. If a value is not JSON, leave out the detail, because the client gives it in other words. */
function comparable(problems: readonly Problem[]): Problem[] {
  return problems.map((each) => {
    const { detail: _, ...others } = each;
    return each.code === "invalid_json" ? others : each;
  });
}

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".json"))) {
  const groups = parse(readFileSync(join(FOLDER, file), "utf8")) as readonly Group[];
  for (const { schema, fields, cases } of groups) {
    test(`${file}: ${schema}`, () => {
      const dataset = defineDataset({ id: 1, fields, explain });
      for (const each of cases) {
        if (each.clients && !each.clients.includes("typescript")) continue;
        const value = parse(each.record ?? each.batch ?? "");
        // A single record that is an array is a batch for `validate`.
        if (each.record && Array.isArray(value)) continue;
        const { problems, truncated } = validate(dataset, value);
        assert.deepEqual(comparable(problems), comparable(each.errors ?? []), each.name);
        assert.equal(truncated, each.truncated ?? false, each.name);
      }
    });
  }
}
