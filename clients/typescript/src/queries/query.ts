/** Queries of stored records. They are written as JSON in the service's query language. */

import type { Fields } from "../dataset.js";
import type { ColumnValue, NameOf, Output, Queryable, Row } from "./outputs.js";

type Comparison = "=" | "!=" | "<" | "<=" | ">" | ">=";
type Operator = Comparison | "in" | "not_in" | "contains" | "starts_with" | "is_null" | "is_not_null";

/** The value that an operator compares a column with. */
type Operand<V, Op> = Op extends "in" | "not_in"
  ? readonly NonNullable<V>[]
  : V extends readonly (infer E)[]
    ? E
    : NonNullable<V>;

/** The answer to a query. */
export interface QueryResult<R> {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly rows: readonly R[];
  readonly row_count: number;
  /** Whether there are more rows than the limit. */
  readonly truncated: boolean;
  readonly stats: {
    readonly elapsed_ms: number;
    readonly files_scanned: number;
    readonly bytes_scanned: number;
    readonly table_version: number | null;
  };
  /** Pass this to `after` to get the next page. */
  readonly cursor?: string;
}

/** Sends a query's JSON. */
export type Runner = (query: object) => Promise<QueryResult<never>>;

interface Parts {
  readonly range?: { readonly from?: string; readonly to?: string };
  readonly select?: readonly object[];
  readonly where?: readonly object[];
  readonly groupBy?: readonly string[];
  readonly orderBy?: readonly object[];
  readonly limit?: number;
  readonly cursor?: string;
}

/** A query of a dataset. Each method returns a new query and leaves the old query unchanged. */
export class Query<F extends Fields, R, Names extends string> {
  readonly #runner: Runner;
  readonly #parts: Parts;

  constructor(runner: Runner, parts: Parts = {}) {
    this.#runner = runner;
    this.#parts = parts;
  }

  /** Select columns: names of fields, aggregates like `count()`, and buckets. */
  select<const Outputs extends readonly Output<F>[]>(
    ...outputs: Outputs
  ): Query<F, Row<F, Outputs>, NameOf<Outputs[number]>> {
    const select = outputs.map((each) => {
      if (typeof each === "string") return { field: each };
      const { name, as: _, ...said } = each;
      return { ...said, as: name };
    });
    return new Query(this.#runner, { ...this.#parts, select });
  }

  /** Keep only rows that meet a condition. All conditions of a query must hold. */
  where<Name extends Exclude<Queryable<F>, "context">>(name: Name, op: "is_null" | "is_not_null"): Query<F, R, Names>;
  where<Name extends Exclude<Queryable<F>, "context">, Op extends Exclude<Operator, "is_null" | "is_not_null">>(
    name: Name,
    op: Op,
    value: Operand<ColumnValue<F, Name>, Op>,
  ): Query<F, R, Names>;
  where(field: string, op: string, value?: unknown): Query<F, R, Names> {
    const condition = value === undefined ? { field, op } : { field, op, value };
    return this.#with({ where: [...(this.#parts.where ?? []), condition] });
  }

  /** Combine all rows that have the same values of these fields and buckets into one row. */
  groupBy(...names: readonly (Queryable<F> | Names)[]): Query<F, R, Names> {
    return this.#with({ groupBy: names });
  }

  /** Sort by a column. Further calls sort the rows that have the same values in the columns of earlier calls. */
  orderBy(field: Queryable<F> | Names, direction: "asc" | "desc" = "asc"): Query<F, R, Names> {
    return this.#with({ orderBy: [...(this.#parts.orderBy ?? []), { field, direction }] });
  }

  /** Query the records with a `timestamp` from `from` to `to`, both inclusive. Default: the last 7 days. */
  range(from: string | Date, to?: string | Date): Query<F, R, Names> {
    return this.#with({ range: to === undefined ? { from: timeOf(from) } : { from: timeOf(from), to: timeOf(to) } });
  }

  /** Return at most `limit` rows. The default is 100, and the maximum is 1,000. */
  limit(limit: number): Query<F, R, Names> {
    return this.#with({ limit });
  }

  /** Return the page that begins at a `cursor`. */
  after(cursor: string): Query<F, R, Names> {
    return this.#with({ cursor });
  }

  /**
   * Run the query.
   *
   * @throws DatasetError
   */
  run(): Promise<QueryResult<R>> {
    return this.#runner(this.toJSON()) as Promise<QueryResult<R>>;
  }

  /** Return the query as the JSON object that the service expects. */
  toJSON(): object {
    return this.#parts;
  }

  #with(parts: Parts): Query<F, R, Names> {
    return new Query(this.#runner, { ...this.#parts, ...parts });
  }
}

function timeOf(time: string | Date): string {
  return typeof time === "string" ? time : time.toISOString();
}
