/** JSON text of JavaScript values. */

import { plain } from "./kinds.js";

const MAX_DEPTH = 999; // the service refuses a text that is nested 1,000 levels deep
const TOO_DEEP = "The values are nested too deep. At most 900 levels are supported.";

/** A value that has no JSON text which the service accepts. */
export class NotJson extends Error {}

/**
 * Return the JSON text of a value. A bigint becomes an integer.
 *
 * @throws NotJson if the service would not accept the text.
 */
export function textOf(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? "null";
  } catch {
    // There is a bigint, or the value contains itself.
    text = written(value, 0) ?? "null";
  }
  // JSON.stringify writes a lone surrogate as an escape, and no other character with \ud.
  if (text.includes("\\ud") && /(?<!\\)(?:\\\\)*\\ud[89a-f]/.test(text))
    throw new NotJson("A text has a lone surrogate.");
  if (text.length > 2 * MAX_DEPTH && depthOf(text) > MAX_DEPTH) throw new NotJson(TOO_DEEP);
  return text;
}

function written(given: unknown, depth: number): string | undefined {
  if (depth > MAX_DEPTH) throw new NotJson(TOO_DEEP);
  const value = plain(given);
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${Array.from(value, (each) => written(each, depth + 1) ?? "null").join(",")}]`;
  const members: string[] = [];
  for (const [name, member] of Object.entries(value)) {
    const text = written(member, depth + 1);
    if (text !== undefined) members.push(`${JSON.stringify(name)}:${text}`);
  }
  return `{${members.join(",")}}`;
}

function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (const [mark] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]]/g)) {
    if (mark === "{" || mark === "[") deepest = Math.max(deepest, ++depth);
    else if (mark === "}" || mark === "]") depth--;
  }
  return deepest;
}

/** Return the length of a text in UTF-8. */
export function byteLength(text: string): number {
  const { Buffer } = globalThis as { Buffer?: { byteLength(text: string): number } };
  return Buffer ? Buffer.byteLength(text) : new TextEncoder().encode(text).length;
}
