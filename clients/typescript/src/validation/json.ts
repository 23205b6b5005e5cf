/** JSON text of JavaScript values. */

const MAX_DEPTH = 999; // the service refuses a text that is nested 1,000 levels deep
const TOO_DEEP = "The values are nested too deep. At most 900 levels are supported.";

/** The value has no JSON text that the service would accept. */
export class NotJson extends TypeError {}

/** Return the value that `JSON.stringify` would write instead of a value. For a Date, this is its text. */
export function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { toJSON } = value as { toJSON?: unknown };
  return typeof toJSON === "function" ? toJSON.call(value, "") : value;
}

/**
 * Return the JSON text of a value. A bigint becomes an integer, and a member that is undefined is left out.
 *
 * @param isChecked whether the caller knows that `wrongIn` finds nothing.
 * @throws NotJson if the text would have another value, or if the service would not accept it.
 */
export function textOf(value: unknown, isChecked = false): string {
  const wrong = isChecked ? "" : wrongIn(value);
  if (wrong) throw new NotJson(wrong.slice(1));
  let text: string;
  try {
    text = JSON.stringify(value);
  } catch {
    text = written(value); // the value contains a bigint
  }
  // JSON.stringify writes a lone surrogate as an escape, and no other character with \ud.
  if (text.includes("\\ud") && text.replaceAll("\\\\", "").includes("\\ud"))
    throw new NotJson("A text has a lone surrogate.");
  return text;
}

function written(given: unknown): string {
  const value = plain(given);
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(written)}]`;
  const members = value as Members;
  return `{${namesIn(members).map((name) => `${JSON.stringify(name)}:${written(members[name])}`)}}`;
}

export type Members = Readonly<Record<string | number, unknown>>;

/** Return the names of the members that have a value. */
export function namesIn(members: Members): string[] {
  return Object.keys(members).filter((name) => members[name] !== undefined);
}

/** Return the name of a value's type, like `[object Map]`. */
export function nameOfType(value: unknown): string {
  return Object.prototype.toString.call(value);
}

/** Return where `JSON.stringify` would change a value, or undefined: `.a[0] is not a JSON value: NaN.` */
export function wrongIn(given: unknown, depth = 1): string | undefined {
  const value = plain(given);
  if (isScalar(value, given)) return undefined;
  const name = typeof value === "number" ? value : nameOfType(value ?? given);
  const isArray = Array.isArray(value);
  if (value == null || !(isArray || name === "[object Object]")) return ` is not a JSON value: ${name}.`;
  if (depth > MAX_DEPTH) throw new NotJson(TOO_DEEP);
  const members = value as Members;
  for (const key of isArray ? value.keys() : namesIn(members)) {
    const wrong = wrongIn(members[key], depth + 1);
    if (wrong) return (isArray ? `[${key}]` : `.${key}`) + wrong;
  }
  return undefined;
}

function isScalar(value: unknown, given: unknown): boolean {
  const type = typeof value;
  return type === "string" || type === "boolean" || type === "bigint" || given === null || Number.isFinite(value);
}

/** Return the length of a text in UTF-8. */
export function byteLength(text: string): number {
  const { Buffer } = globalThis as { Buffer?: { byteLength(text: string): number } };
  return Buffer ? Buffer.byteLength(text) : new TextEncoder().encode(text).length;
}
