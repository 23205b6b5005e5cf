/** Timestamps of the API: RFC 3339 with an offset, in the years 0001 to 9999, both in the text and in UTC. */

export const DATE = /^\d{4}-\d\d-\d\d$/;

/** Return whether a text is a date like `2026-06-10` that exists. */
export function isDate(text: string): boolean {
  // For 2026-02-31, some engines return null, and others return another date.
  return DATE.test(text) && text >= "0001" && String(new Date(text).toJSON()).startsWith(text);
}

const FIRST = -62_135_596_800_000_000n; // 0001-01-01T00:00:00Z
const END = 253_402_300_800_000_000n; // 10000-01-01T00:00:00Z

// A timestamp whose parts are in range. It may still be invalid if its month has no such day after the 28th.
const LIKELY =
  /^(?!0000)(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))[Tt]((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/** Return whether a text is a timestamp. This is faster than `microsecondsOf`. */
export function isTimestamp(text: string): boolean {
  const isPlain = LIKELY.test(text) && text.slice(8, 10) <= "28" && !text.startsWith("0001-01-01");
  return isPlain || microsecondsOf(text) !== undefined;
}

/** Return the microseconds of a timestamp since 1970, rounded, or undefined if the text is not a timestamp. */
export function microsecondsOf(text: string): bigint | undefined {
  const found = LIKELY.exec(text);
  if (!found || !isDate(text.slice(0, 10))) return undefined;
  const [, day, time, fraction = "", offset = ""] = found;
  // A JavaScript date has milliseconds.
  const rounded = Number(fraction.slice(1, 7).padEnd(6, "0")) + (fraction.charAt(7) >= "5" ? 1 : 0);
  const from = (zone: string): bigint => BigInt(Date.parse(`${day}T${time}${zone}`)) * 1000n + BigInt(rounded);
  const moment = from(offset.toUpperCase());
  return from("Z") < END && moment >= FIRST && moment < END ? moment : undefined;
}
