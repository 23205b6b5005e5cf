import assert from "node:assert/strict";
import { test } from "node:test";
import { defineDataset, validate } from "@dataset-ingest/client";

/** Return whether a field with this pattern accepts a text. */
function accepts(pattern: string, text: string): boolean {
  const dataset = defineDataset({ id: 1, fields: { text: { type: "string", pattern } } });
  return validate(dataset, { timestamp: new Date(), context: {}, text }).problems.length === 0;
}

test("a pattern that means the same in RE2 and JavaScript is checked", () => {
  const refused: [string, string][] = [
    ["^[A-Z]{2}-\\d+$", "RO-x"],
    ["^(?:foo|bar)$", "baz"],
    ["^[\\w.+-]+@[a-z]+\\.[a-z]{2,}$".replace("{2,}", "{2}"), "nobody"],
    ["\\bword\\b", "wordy"],
    ["^\\S*$", "a b"],
    ["^a?b$", "aab"],
  ];
  for (const [pattern, text] of refused) assert.equal(accepts(pattern, text), false, pattern);
});

test("only the service checks a pattern with other syntax", () => {
  const others = [
    "(?i)^a$",
    "\\A[b]",
    "^\\pL$",
    "[[:alpha:]]",
    "^[\\s]$",
    "(?P<name>a)",
    "\\x{41}",
    "^\\Qa\\E$",
    "[]a]",
    "a\\-b",
    "\\_",
    "\\B",
    "[][b]",
    "[^][b]",
    "o{02}$",
  ];
  for (const pattern of others) assert.equal(accepts(pattern, "no match"), true, pattern);
});

test("only the service checks a pattern that could take long", () => {
  const slow = ["^(a+)+$", "^(?:a|aa)*b$", "a*a*a*b", "^(a?){30}b$", `${"a?".repeat(30)}b`, "(?:a|a)".repeat(30)];
  const text = "a".repeat(999);
  const began = performance.now();
  for (const pattern of slow) assert.equal(accepts(pattern, `${text}c`), true, pattern);
  assert.ok(performance.now() - began < 2000);
});
