/** Exact decimal numbers: `decimal(p,s)` has up to p digits, s of them after the point, and is never rounded. */

// The service also refuses a zero with an exponent of more than 18 digits.
const NUMBER = /^(?!-?[0.]+e.*[1-9]\d{18})(-?)(0|[1-9]\d*)(?:\.(\d+))?(?:e([+-]?\d+))?$/i;

/** A decimal number: its sign, and its digits times 10 to the power of `power`. Zero has no digits. */
export interface Parts {
  readonly sign: string;
  readonly digits: string;
  readonly power: number;
}

/** Return the parts of a number, or undefined if the text is not a number. */
export function partsOf(text: string): Parts | undefined {
  const found = NUMBER.exec(text);
  if (!found) return undefined;
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = found;
  const all = whole + fraction;
  const kept = all.replace(/0+$/, "");
  return {
    sign,
    digits: kept.replace(/^0+/, ""),
    power: Number(exponent) - fraction.length + all.length - kept.length,
  };
}

/** Return the text of a string, or the JSON text of a number. Return undefined for any other value. */
export function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "bigint" ? String(value) : undefined;
}

/** Return a value in units of its last digit, or undefined if it does not fit into `precision` and `scale`. */
export function unitsOf(value: unknown, precision: number, scale: number): bigint | undefined {
  const parts = partsOf(textOf(value) ?? "");
  if (!parts) return undefined;
  if (!parts.digits) return 0n;
  if (-parts.power > scale || parts.digits.length + parts.power > precision - scale) return undefined;
  return BigInt(parts.sign + parts.digits + "0".repeat(parts.power + scale));
}
