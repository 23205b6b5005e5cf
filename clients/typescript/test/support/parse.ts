const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Parse JSON as `JSON.parse` does, but an integer beyond 2^53 becomes a bigint. */
export function parse(text: string): unknown {
  const marked = text.replace(TOKENS, (token) =>
    /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `{"$bigint":"${token}"}` : token,
  );
  return JSON.parse(marked, (_, value) =>
    typeof value === "object" && value !== null && typeof value.$bigint === "string" ? BigInt(value.$bigint) : value,
  );
}
