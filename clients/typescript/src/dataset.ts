import type { Explain } from "./validation/explain.js";
import { kindOf } from "./validation/kinds.js";
import { Validator } from "./validation/validate.js";

/** A value that `JSON.stringify` can write. A `bigint` is sent as a JSON integer. */
export type Json =
  | string
  | number
  | bigint
  | boolean
  | null
  | Date
  | readonly Json[]
  | { readonly [name: string]: Json | undefined };

/** The names of the field types. `decimal(10,2)` has up to 10 digits, 2 of them after the point. */
export type TypeName =
  | "string"
  | "number"
  | "boolean"
  | "timestamp"
  | "integer"
  | `decimal(${number},${number})`
  | "date"
  | "uuid"
  | "json"
  | "string[]"
  | "number[]"
  | "integer[]"
  | "timestamp[]";

/** What a declaration may say about a field, besides its type. */
export interface FieldMembers {
  readonly optional?: boolean;
  readonly minimum?: number | bigint | string;
  readonly maximum?: number | bigint | string;
  readonly min_length?: number;
  readonly max_length?: number;
  readonly pattern?: string;
  readonly description?: string;
  readonly unit?: string;
}

/** A field that is declared with more than its type. */
export type FieldObject = FieldMembers &
  (
    | { readonly type: TypeName | `${TypeName}?`; readonly values?: never }
    | { readonly type: "enum" | "enum?"; readonly values: readonly string[] }
  );

/** A field as a schema declares it: its type, with a `?` if it is optional, or an object. */
export type FieldDeclaration = TypeName | `${TypeName}?` | FieldObject;

/** The declared fields of a dataset by name. */
export type Fields = { readonly [name: string]: FieldDeclaration };

/** A dataset and its schema. Make it with `defineDataset`. */
export interface Dataset<F extends Fields = Fields> {
  /** The dataset's ID, as its page in the admin shows it. */
  readonly id: number;
  readonly fields: F;
  /** Reads records of this dataset. */
  readonly validator: Validator;
}

type Scalar<T> = T extends "number"
  ? number
  : T extends "boolean"
    ? boolean
    : T extends "timestamp"
      ? string | Date
      : T extends "integer"
        ? number | bigint
        : T extends `decimal(${string}`
          ? number | string | bigint
          : T extends "json"
            ? Json
            : string;

type Value<T> = T extends `${infer Element}[]` ? readonly Scalar<Element>[] : Scalar<T>;

type TypeOf<D> = D extends { readonly type: infer T } ? T : D;

/** The values of a declared field, without null. */
export type FieldValue<D> = D extends { readonly type: "enum" | "enum?"; readonly values: readonly (infer V)[] }
  ? V
  : TypeOf<D> extends `${infer T}?`
    ? Value<T>
    : Value<TypeOf<D>>;

type OptionalNames<F> = {
  [Name in keyof F]: F[Name] extends { readonly optional: true }
    ? Name
    : TypeOf<F[Name]> extends `${string}?`
      ? Name
      : never;
}[keyof F];

/** The record of a schema's fields. */
export type RecordOf<F extends Fields> = {
  readonly timestamp: string | Date;
  readonly context: { readonly [name: string]: unknown };
} & { readonly [Name in Exclude<keyof F, OptionalNames<F>>]: FieldValue<F[Name]> } & {
  readonly [Name in OptionalNames<F>]?: FieldValue<F[Name]> | null | undefined;
};

/** The type of a dataset's records: `type Order = InferRecord<typeof orders>`. */
export type InferRecord<D extends Dataset> = D extends Dataset<infer F> ? RecordOf<F> : never;

/** Makes TypeScript report an error if a field has an unknown member. */
type NoOthers<F extends Fields> = {
  readonly [Name in keyof F]: F[Name] extends object
    ? { readonly [Member in Exclude<keyof F[Name], keyof FieldMembers | "type" | "values">]: never }
    : unknown;
};

/** What `defineDataset` needs. */
export interface Definition<F extends Fields> {
  readonly id: number;
  readonly fields: F & NoOthers<F>;
  /** Gives each problem its `detail`. Without this function, problems that the client finds have no `detail`. */
  readonly explain?: Explain;
}

/**
 * Describe a dataset. The result is for sending and for queries.
 *
 * @throws TypeError if a field has no valid type.
 */
export function defineDataset<const F extends Fields>({ id, fields, explain }: Definition<F>): Dataset<F> {
  if (!Number.isSafeInteger(id) || id < 1) throw new TypeError("The ID of a dataset is a positive integer.");
  const kinds = new Map(Object.entries(fields).map(([name, said]) => [name, kindOf(name, said)]));
  return { id, fields, validator: new Validator(kinds, explain) };
}
