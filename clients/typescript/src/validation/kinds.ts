/** The field types: which values a field accepts, and what an error says about other values. */

import type { FieldDeclaration, FieldObject } from "../dataset.js";
import { unitsOf } from "./decimals.js";
import { plain, wrongIn } from "./json.js";
import { matcherOf } from "./patterns.js";
import { isDate, isTimestamp, microsecondsOf } from "./timestamps.js";

/** A limit of a field's values. */
export interface Constraint {
  readonly name: "minimum" | "maximum" | "min_length" | "max_length" | "pattern";
  /** The limit as errors write it: `2 characters`. */
  readonly text: string;
  isKept(value: unknown): boolean;
}

/** The type of a field. Its functions get the result of `plain`, and accept only values that have a JSON text. */
export interface Kind {
  /** The name of the type in errors. */
  readonly name: string;
  readonly expected: string;
  readonly isOptional?: boolean;
  /** The values of an enum. */
  readonly values?: readonly string[];
  /** The type of an array's elements. */
  readonly element?: Kind;
  readonly constraints?: readonly Constraint[];
  /** The type without the constraints. */
  readonly base?: Kind;
  accepts(value: unknown): boolean;
}

export const MIN_INTEGER = -(2n ** 63n);
export const MAX_INTEGER = 2n ** 63n - 1n;
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
export const DECIMAL = /^decimal\((\d{1,3}),(\d{1,3})\)$/;
const MAX_SHOWN = 200;
const MAX_MATCHED = 1000;

/** Return the JSON type of a value, as errors name it. */
export function jsonType(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "bigint") return "number";
  return Array.isArray(value) ? "array" : typeof value;
}

function isInteger(value: unknown): boolean {
  const isWhole = typeof value === "bigint" || Number.isInteger(value);
  return isWhole && (value as number) >= MIN_INTEGER && (value as number) <= MAX_INTEGER;
}

/** Return whether a member of a record is a JSON value, with everything that it contains. */
export function isJson(value: unknown): boolean {
  return !wrongIn(value, 2);
}

function isNumber(value: unknown): boolean {
  return jsonType(value) === "number" && Number.isFinite(Number(value));
}

function scalar(name: string, expected: string, accepts: (value: unknown) => boolean): Kind {
  return { name, expected, accepts };
}

function text(name: string, expected: string, isOne: (text: string) => boolean): Kind {
  return scalar(name, expected, (value) => typeof value === "string" && isOne(value));
}

const STRING = scalar("string", "string", (value) => typeof value === "string");
const NUMBER = scalar("number", "number", isNumber);
const INTEGER = scalar("integer", "integer", isInteger);

/** The type of each record's `timestamp`. */
export const TIMESTAMP = text("timestamp", "RFC 3339 date-time with an offset", isTimestamp);

const ARRAYS = [STRING, NUMBER, INTEGER, TIMESTAMP].map(arrayOf);
const PLAIN = [
  STRING,
  NUMBER,
  INTEGER,
  TIMESTAMP,
  scalar("boolean", "boolean", (value) => typeof value === "boolean"),
  text("date", "RFC 3339 full-date", isDate),
  text("uuid", "UUID", (value) => UUID.test(value)),
  scalar("json", "JSON value", isJson),
  ...ARRAYS,
];

function arrayOf(element: Kind): Kind {
  const accepts = (value: unknown): boolean =>
    Array.isArray(value) && Array.from(value, plain).every((each) => element.accepts(each));
  return { name: `${element.name}[]`, expected: `array, each element: ${element.expected}`, element, accepts };
}

/**
 * Return the type of a declared field.
 *
 * @throws TypeError if the declaration has no valid type.
 */
export function kindOf(field: string, declared: FieldDeclaration): Kind {
  const said: FieldObject = typeof declared === "object" ? declared : { type: declared };
  const written = said.type.replace(", ", ",");
  const name = written.replace(/\?$/, "");
  const kind = constrained(unconstrained(field, name, said), said);
  if (!said.optional && written === name) return kind;
  const accepts = (value: unknown): boolean => value === null || kind.accepts(value);
  return { ...kind, isOptional: true, expected: `${kind.expected}, or null`, accepts };
}

function unconstrained(field: string, name: string, { values }: FieldObject): Kind {
  const decimal = DECIMAL.exec(name);
  if (decimal) {
    const fits = (value: unknown): boolean => unitsOf(value, Number(decimal[1]), Number(decimal[2])) !== undefined;
    return scalar(name, `${name}, as a number or a string`, fits);
  }
  if (name === "enum" && values?.length) {
    const known = new Set<unknown>(values);
    return { name, values, expected: `one of ${listed(values)}`, accepts: (value) => known.has(value) };
  }
  const found = PLAIN.find((each) => each.name === name);
  if (!found) throw new TypeError(`The field ${field} has no valid type: ${name}`);
  return found;
}

/** Return all values in quotes, or the first values in quotes and the number of the other values. */
function listed(values: readonly string[]): string {
  const shown: string[] = [];
  let length = 0;
  for (const each of values) {
    if (length + each.length > MAX_SHOWN && length)
      return `${shown.join(", ")} and ${values.length - shown.length} others`;
    const quoted = JSON.stringify(each);
    shown.push(quoted);
    length += quoted.length;
  }
  return shown.join(", ");
}

const WORDS = {
  minimum: "at least",
  min_length: "at least",
  maximum: "at most",
  max_length: "at most",
  pattern: "matching",
};

function constrained(kind: Kind, said: FieldObject): Kind {
  const constraints = constraintsOf(kind, said);
  if (!constraints.length) return kind;
  return {
    ...kind,
    base: kind,
    constraints,
    expected: [kind.expected, ...constraints.map(({ name, text }) => `${WORDS[name]} ${text}`)].join(", "),
    accepts: (value) => kind.accepts(value) && constraints.every((each) => each.isKept(value)),
  };
}

function constraintsOf(kind: Kind, said: FieldObject): Constraint[] {
  const { minimum, maximum, min_length: least, pattern } = said;
  const most = said.max_length ?? (pattern === undefined ? undefined : MAX_MATCHED);
  const found: Constraint[] = [];
  const add = (name: Constraint["name"], text: string, isKept: Constraint["isKept"]): void => {
    found.push({ name, text, isKept });
  };
  const read = comparable(kind.name);
  if (minimum !== undefined) add("minimum", limitText(minimum), (value) => read(value) >= read(minimum));
  if (maximum !== undefined) add("maximum", limitText(maximum), (value) => read(value) <= read(maximum));
  const counted = (count: number): string =>
    `${count} ${kind.element ? "element" : "character"}${count === 1 ? "" : "s"}`;
  if (least !== undefined) add("min_length", counted(least), (value) => lengthOf(value) >= least);
  if (most !== undefined) add("max_length", counted(most), (value) => lengthOf(value) <= most);
  if (pattern !== undefined) {
    const test = matcherOf(pattern, most ?? MAX_MATCHED);
    add("pattern", pattern, (value) => !test || test(value as string));
  }
  return found;
}

/** Return a function that makes values of a type comparable. */
function comparable(name: string): (value: unknown) => number | bigint {
  const decimal = DECIMAL.exec(name);
  if (decimal) return (value) => unitsOf(value, Number(decimal[1]), Number(decimal[2])) ?? 0n;
  if (name === "timestamp") return (value) => microsecondsOf(value as string) ?? 0n;
  if (name === "date") return (value) => Date.parse(value as string);
  return name === "number" ? Number : (value) => value as number | bigint;
}

/** Return a limit as the service writes it: 1e-05 for 0.00001. */
function limitText(limit: number | bigint | string): string {
  if (typeof limit !== "number" || limit === 0 || Math.abs(limit) >= 1e-4) return String(limit);
  return limit.toExponential().replace(/-(\d)$/, "-0$1");
}

/** Return the number of elements of an array, or of Unicode characters of a text. */
function lengthOf(value: unknown): number {
  return Array.from(value as ArrayLike<unknown> & Iterable<unknown>).length;
}
