/** The columns of a query's result, and their types. */

import type { Fields } from "../dataset.js";

/** The columns that every table has in addition to the declared fields. */
interface Always {
  readonly timestamp: string;
  readonly ingested_at: string;
  readonly id: string;
  readonly __traceId: string;
  readonly context: unknown;
}

/** The names that a query may use. */
export type Queryable<F extends Fields> = (keyof F & string) | keyof Always;

type ReadScalar<T> = T extends "number" | "integer" | `decimal(${string}`
  ? number
  : T extends "boolean"
    ? boolean
    : T extends "json"
      ? unknown
      : string;

type ReadType<T> = T extends `${infer Element}[]` ? readonly ReadScalar<Element>[] : ReadScalar<T>;

/** The type of a value in a result. Times and dates are texts. An optional field may be null. */
type Read<D> = D extends { readonly type: "enum"; readonly values: readonly (infer V)[] }
  ? D extends { readonly optional: true }
    ? V | null
    : V
  : D extends { readonly type: "enum?"; readonly values: readonly (infer V)[] }
    ? V | null
    : D extends { readonly optional: true; readonly type: infer T }
      ? ReadType<T> | null
      : D extends { readonly type: infer T }
        ? Read<T>
        : D extends `${infer T}?`
          ? ReadType<T> | null
          : ReadType<D>;

/** The value of a column in a result. */
export type ColumnValue<F extends Fields, Name> = Name extends keyof Always
  ? Always[Name]
  : Name extends keyof F
    ? Read<F[Name]>
    : never;

/** The functions that compute one value from many. */
export type AggregateName =
  | "count"
  | "count_distinct"
  | "sum"
  | "avg"
  | "min"
  | "max"
  | "median"
  | "p90"
  | "p95"
  | "p99";

/** An aggregate of a query. */
export interface Aggregate<A extends AggregateName, Field extends string | undefined, Name extends string> {
  readonly aggregate: A;
  readonly field?: Field;
  readonly name: Name;
  /** Give the column another name. */
  as<Other extends string>(name: Other): Aggregate<A, Field, Other>;
}

/** A time bucket of a query. */
export interface Bucket<Field extends string, Name extends string> {
  readonly bucket: BucketUnit;
  readonly field: Field;
  readonly timezone?: string;
  readonly name: Name;
  as<Other extends string>(name: Other): Bucket<Field, Other>;
}

export type BucketUnit = "minute" | "hour" | "day" | "week" | "month";

function aggregate<A extends AggregateName, const Field extends string | undefined, Name extends string>(
  name: A,
  field: Field,
  column: Name,
): Aggregate<A, Field, Name> {
  const other = <Other extends string>(as: Other): Aggregate<A, Field, Other> => aggregate(name, field, as);
  return { aggregate: name, ...(field === undefined ? {} : { field }), name: column, as: other };
}

function of<A extends Exclude<AggregateName, "count">>(name: A) {
  return <const Field extends string>(field: Field): Aggregate<A, Field, `${A}_${Field}`> =>
    aggregate(name, field, `${name}_${field}`);
}

/** The number of records. The column's name is `count`. */
export const count = (): Aggregate<"count", undefined, "count"> => aggregate("count", undefined, "count");
/** The exact number of different values of a field. The column's name is `count_distinct_<field>`. */
export const countDistinct = /* @__PURE__ */ of("count_distinct");
export const sum = /* @__PURE__ */ of("sum");
export const avg = /* @__PURE__ */ of("avg");
export const min = /* @__PURE__ */ of("min");
export const max = /* @__PURE__ */ of("max");
export const median = /* @__PURE__ */ of("median");
export const p90 = /* @__PURE__ */ of("p90");
export const p95 = /* @__PURE__ */ of("p95");
export const p99 = /* @__PURE__ */ of("p99");

/** The start of the minute, hour, day, week or month in which a time lies. The column's name is that of the unit. */
export function bucket<U extends BucketUnit, Field extends string = "timestamp">(
  unit: U,
  options: { readonly field?: Field; readonly timezone?: string } = {},
): Bucket<Field, U> {
  const { field = "timestamp" as Field, timezone } = options;
  const made = <Name extends string>(name: Name): Bucket<Field, Name> => ({
    bucket: unit,
    field,
    ...(timezone === undefined ? {} : { timezone }),
    name,
    as: made,
  });
  return made(unit);
}

/** What a query may select: the names of columns, aggregates and buckets. */
export type Output<F extends Fields> =
  | Queryable<F>
  | Aggregate<AggregateName, Queryable<F> | undefined, string>
  | Bucket<Queryable<F>, string>;

/** The name of a selected column. */
export type NameOf<O> = O extends string ? O : O extends { readonly name: infer Name extends string } ? Name : never;

/** The value of a selected column. */
export type ValueOf<F extends Fields, O> = O extends string
  ? ColumnValue<F, O>
  : O extends Aggregate<infer A, infer Field, string>
    ? A extends "count" | "count_distinct"
      ? number
      : A extends "sum" | "avg" | "median" | "p90" | "p95" | "p99"
        ? number | null
        : ColumnValue<F, Field> | null
    : string;

/** A row of a result. */
export type Row<F extends Fields, Outputs extends readonly unknown[]> = {
  readonly [O in Outputs[number] as NameOf<O>]: ValueOf<F, O>;
};
