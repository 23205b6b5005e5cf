/** Says why a value is not accepted, if the names of the types do not show it. The texts are those of the service. */

import { partsOf, textOf } from "./decimals.js";
import { plain } from "./json.js";
import { type Constraint, DECIMAL, jsonType, type Kind, MAX_INTEGER, MIN_INTEGER } from "./kinds.js";
import { DATE, isDate } from "./timestamps.js";

const EXAMPLE = "2026-06-10T10:58:00Z";
const EXAMPLE_UUID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

/** Explains a value that a type does not accept. */
export type Explain = (kind: Kind, value: unknown) => string | undefined;

const BROKEN: Readonly<Record<Constraint["name"], string>> = {
  minimum: "It is less than",
  maximum: "It is more than",
  min_length: "It has fewer than",
  max_length: "It has more than",
  pattern: "It does not match the pattern",
};

/** Give each problem its `detail`, as the service does: pass this function to `defineDataset`. */
export const explain: Explain = (kind, value) => {
  const base = kind.base ?? kind;
  if (!base.accepts(value)) return whyNot(base, value);
  const broken = kind.constraints?.find((each) => !each.isKept(value));
  if (!broken) return undefined;
  return `${BROKEN[broken.name]}${broken.name === "pattern" ? "" : ` ${broken.text}`}.`;
};

const REASONS: Readonly<Record<string, (value: unknown) => string | undefined>> = {
  number: whyNoNumber,
  integer: whyNoInteger,
  timestamp: whyNoTimestamp,
  date: whyNoDate,
  uuid: whyNoUuid,
};

function whyNot(kind: Kind, value: unknown): string | undefined {
  const decimal = DECIMAL.exec(kind.name);
  if (decimal) return whyNoDecimal(value, Number(decimal[1]), Number(decimal[2]));
  if (kind.values) return whyNoMember(kind.values, value);
  return kind.element ? whyNoArray(kind.element, value) : REASONS[kind.name]?.(value);
}

function whyNoNumber(value: unknown): string | undefined {
  return typeof value === "bigint" ? "It is beyond the range of a double." : undefined;
}

function whyNoInteger(value: unknown): string | undefined {
  if (jsonType(value) !== "number") return undefined;
  return /^-?\d+$/.test(String(value))
    ? `It is beyond 64 bits: an integer is ${MIN_INTEGER} to ${MAX_INTEGER}.`
    : "Write an integer without a point and without an exponent: 1, not 1.0 or 1e0.";
}

function whyNoUuid(value: unknown): string {
  if (typeof value !== "string") return `A UUID is a string, like ${EXAMPLE_UUID}.`;
  return `Write it as 32 hexadecimal digits with hyphens, like ${EXAMPLE_UUID}.`;
}

function whyNoMember(values: readonly string[], value: unknown): string | undefined {
  const sent = typeof value === "string" ? trimmed(value).toLowerCase() : undefined;
  const like = values.find((each) => each.toLowerCase() === sent);
  return like === undefined ? undefined : `Write it exactly like ${JSON.stringify(like)}.`;
}

function whyNoArray(element: Kind, value: unknown): string | undefined {
  if (!Array.isArray(value)) return undefined;
  const values = Array.from(value, plain);
  const index = values.findIndex((each) => !element.accepts(each));
  const wrong = values[index];
  const why = whyNot(element, wrong) ?? `expected ${element.expected}, received ${jsonType(wrong)}.`;
  return index < 0 ? undefined : `Element ${index}, counted from 0: ${why}`;
}

/** Return why a text is not a date. */
function whyNoDate(value: unknown): string {
  if (typeof value !== "string") return "A date is a string, like 2026-06-10.";
  if (!DATE.test(value)) return "It is not like 2026-06-10: a date has no time of day and no offset.";
  return value.startsWith("0000") ? "The year must be 0001 to 9999." : `There is no date ${value}.`;
}

const DATE_TIME = /^(\d{4}-\d\d-\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))$/;
const ALMOST = /^\d{4}-\d\d-\d\d(?:(\D)\d\d:\d\d(?:(:\d\d)([.,]\d+)?)?(.*))?$/su;
const OFFSETS: readonly (readonly [RegExp, string])[] = [
  [/^$/, "an offset is missing: Z, or one like +02:00"],
  [/^(?:[Zz]|[+-]\d\d:\d\d)$/, ""],
  [/^[+-]\d{4}$/, "the offset needs a colon, like +02:00"],
  [/^[+-]\d\d$/, "the offset needs minutes, like +02:00"],
  [/^[ \t-\r]+(?:[Zz]|[+-]\d\d:?\d\d)$/, "a space stands before the offset"],
  [/^(?:[ \t-\r]*[A-Za-z]+|.*\[.*)$/s, "the offset is Z or one like +02:00, not a name"],
  [/^\u2212/, "the minus of the offset is not an ASCII hyphen"],
  [/^/, "the offset is not Z or one like +02:00"],
];

/** Return why a value is not a timestamp. */
function whyNoTimestamp(value: unknown): string {
  if (typeof value !== "string") return `A timestamp is a string, like ${EXAMPLE}.`;
  if (!value) return "It is empty.";
  if (trimmed(value) !== value) return "White space stands before or after it.";
  const spelled = DATE_TIME.exec(value);
  if (spelled) return whyNoMoment(spelled);
  if (/^-?\d+(?:\.\d+)?$/.test(value)) return `A Unix time is not accepted: send a text like ${EXAMPLE}.`;
  const almost = ALMOST.exec(value);
  const reasons = almost ? whyNotSpelled(almost) : [];
  const text = reasons.join("; ");
  return text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}.` : `It is not like ${EXAMPLE}.`;
}

/** Return a text without the white space around it. Like the service, this uses Python's definition of white space. */
function trimmed(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && isSpace(text.charAt(start))) start++;
  while (start < end && isSpace(text.charAt(end - 1))) end--;
  return text.slice(start, end);
}

function isSpace(char: string): boolean {
  return /[^\S\ufeff]/.test(char) || "\x1c\x1d\x1e\x1f\x85".includes(char); // \ufeff is a byte order mark
}

function whyNotSpelled([, separator, seconds, fraction, offset = ""]: RegExpExecArray): string[] {
  if (separator === undefined) return ["the time of day is missing"];
  const reasons: string[] = [];
  if (!/[Tt]/.test(separator))
    reasons.push(`a T must stand between date and time${separator === " " ? ", not a space" : ""}`);
  if (seconds === undefined) reasons.push("the seconds are missing");
  if (offset.startsWith(".")) return [...reasons, "the fraction of a second has no digits"];
  if (fraction?.startsWith(",")) reasons.push("a point must stand before the fraction of a second, not a comma");
  const reason = OFFSETS.find(([pattern]) => pattern.test(offset))?.[1];
  return reason ? [...reasons, reason] : reasons;
}

function whyNoMoment([
  ,
  day = "",
  hour = "",
  minute = "",
  second = "",
  ,
  ,
  offsetHour = "",
  offsetMinute = "",
]: RegExpExecArray): string {
  if (!isDate(day)) return whyNoDate(day);
  if (second === "60") return "A leap second cannot be stored: send the second 59.";
  if (hour > "23" || minute > "59" || second > "59") return `There is no time of day ${hour}:${minute}:${second}.`;
  if (offsetHour > "23" || offsetMinute > "59")
    return "The offset must lie between -23:59 and +23:59, with minutes up to 59.";
  return "Its moment, in whole microseconds, must lie in the years 0001 to 9999, both in the text and in UTC.";
}

/** Return why a value is not a decimal number of this precision and scale. */
function whyNoDecimal(value: unknown, precision: number, scale: number): string | undefined {
  const text = textOf(value);
  if (text === undefined) return undefined;
  const parts = partsOf(text);
  if (!parts) {
    const isText = typeof value === "string";
    return isText
      ? "Write it like 12.50: digits and a point, without spaces, currency signs or thousands separators."
      : undefined;
  }
  if (parts.digits.length + parts.power > precision - scale)
    return `It has more than ${precision - scale} digits before the point.`;
  if (scale === 0) return "It has a fraction, and nothing is rounded.";
  return `It has more than ${scale} digits after the point, and nothing is rounded.`;
}
