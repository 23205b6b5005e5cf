/** Checks records by the rules of the service, and describes problems with the service's texts. */

import type { Dataset } from "../dataset.js";
import type { Explain } from "./explain.js";
import { type Members, NotJson, nameOfType, namesIn, plain, textOf } from "./json.js";
import { isJson, jsonType, type Kind, TIMESTAMP } from "./kinds.js";

/** One problem of a record, or of a refused query or change, as the service describes it. */
export interface Problem {
  /** The position of the record in an array, counted from 0. */
  readonly index?: number;
  readonly error: string;
  readonly code: string;
  readonly field?: string;
  /** Only for a query: the place of the problem in the query, like `where[1].op`. */
  readonly at?: string;
  readonly expected?: string;
  readonly received?: string;
  readonly detail?: string;
}

/** The problems of records: at most 20, in order. */
export interface Verdict {
  readonly problems: readonly Problem[];
  /** Whether there are more problems. */
  readonly truncated: boolean;
}

const MAX_PROBLEMS = 20;
const MAX_CHARACTERS = 100;
const CONTEXT: Kind = {
  name: "context",
  expected: "object",
  accepts: (value) => jsonType(value) === "object" && isJson(value),
};

const ALWAYS_THERE = [
  [TIMESTAMP, "Invalid or missing timestamp"],
  [CONTEXT, "context must be an object"],
] as const;
const NONE: readonly Problem[] = [];
const NOTHING: Kind = { name: "nothing", expected: "nothing", accepts: () => true };

/** Return what the service would say about a record, or about an array of records. */
export function validate({ validator }: Dataset, records: unknown): Verdict {
  const { problems, truncated } = readAll(validator, records);
  return { problems, truncated };
}

/** Return the JSON texts of a record, or of an array of records, and their problems. */
export function readAll(validator: Validator, records: unknown): Verdict & { readonly texts: readonly string[] } {
  const isBatch = Array.isArray(records);
  const read = (isBatch ? records : [records]).map((each) => validator.read(each));
  let found: Problem[] = read.flatMap(({ problems }, index) =>
    isBatch ? problems.map((problem) => ({ index, ...problem })) : problems,
  );
  if (!read.length) found = [{ error: "Batch body must be a non-empty array", code: "invalid_batch" }];
  const unreadable = found.find((each) => each.code === "invalid_json");
  if (unreadable) found = [unreadable];
  const texts = read.map((each) => each.text);
  return { texts, problems: found.slice(0, MAX_PROBLEMS), truncated: found.length > MAX_PROBLEMS };
}

/** A record's JSON text and its problems: at most 21. */
export interface Read {
  readonly text: string;
  readonly problems: readonly Problem[];
}

/** Reads the records of a dataset. */
export class Validator {
  readonly #kinds: ReadonlyMap<string, Kind>;
  readonly #members: ReadonlyMap<string, Kind>;
  readonly #required: number;
  readonly #explain: Explain | undefined;

  constructor(kinds: ReadonlyMap<string, Kind>, explain?: Explain) {
    this.#kinds = kinds;
    this.#explain = explain;
    this.#members = new Map([...ALWAYS_THERE.map(([kind]) => [kind.name, kind] as const), ...kinds]);
    this.#required = [...this.#members.values()].filter((each) => !each.isOptional).length;
  }

  read(record: unknown): Read {
    try {
      const value = plain(record);
      const isAccepted = this.#accepts(value);
      const text = textOf(record, isAccepted);
      return { text, problems: isAccepted ? NONE : this.#problems(value) };
    } catch (error) {
      if (!(error instanceof NotJson)) throw error;
      return { text: "null", problems: [{ error: "Invalid JSON body", code: "invalid_json", detail: error.message }] };
    }
  }

  /** Return whether a record matches the schema and has a JSON text. To be fast, this reads most values only once. */
  #accepts(record: unknown): boolean {
    if (nameOfType(record) !== "[object Object]") return false;
    let missing = this.#required;
    for (const name of Object.keys(record as Members)) {
      const given = (record as Members)[name];
      if (given === undefined) continue;
      const value = plain(given);
      const member = this.#members.get(name);
      if (!member?.accepts(value) || (value === null && given !== null)) return false;
      if (!member.isOptional) missing--;
    }
    return missing === 0;
  }

  #problems(record: unknown): Problem[] {
    const received = jsonType(record);
    if (received !== "object") {
      const detail = "A batch is one array of objects. Send it to /batch as application/json.";
      const error = "Payload must be an object";
      const more = received === "array" && { detail };
      return [{ error, code: "not_an_object", expected: "object", received, ...more }];
    }
    const members = record as Members;
    const values = new Map(namesIn(members).map((name) => [name, plain(members[name])]));
    return [...this.#recordProblems(values)].slice(0, MAX_PROBLEMS + 1);
  }

  /** Yield the problems in the order that the service promises. */
  *#recordProblems(values: ReadonlyMap<string, unknown>): Iterable<Problem> {
    for (const [kind, error] of ALWAYS_THERE) {
      const { name } = kind;
      if (!kind.accepts(values.get(name))) yield this.#problem(error, `invalid_${name}`, name, kind, values.get(name));
    }
    for (const [name, value] of values) {
      if (this.#members.has(name)) continue;
      const shown = [...name].slice(0, MAX_CHARACTERS).join("");
      yield this.#problem(`Extra field: ${shown}`, "extra_field", shown, NOTHING, value);
    }
    for (const [name, kind] of this.#kinds) {
      if (!values.has(name) && !kind.isOptional)
        yield this.#problem(`Missing field: ${name}`, "missing_field", name, kind);
    }
    for (const [name, kind] of this.#kinds) {
      const value = values.get(name);
      if (value !== undefined && !kind.accepts(value))
        yield this.#problem(`Invalid ${kind.name} field: ${name}`, "invalid_field", name, kind, value);
    }
  }

  #problem(error: string, code: string, field: string, kind: Kind, value?: unknown): Problem {
    const isMissing = value === undefined;
    const detail = isMissing ? undefined : this.#explain?.(kind, value);
    const received = isMissing ? "nothing" : jsonType(value);
    return { error, code, field, expected: kind.expected, received, ...(detail && { detail }) };
  }
}
