/**
 * Patterns of a schema have the syntax of RE2. RE2 needs time only in proportion to the length of the text. But the
 * engine of JavaScript tries combinations, which may take very long. So the client checks a pattern only if it means
 * the same in JavaScript, and needs few steps for the longest text. Only the service checks the other patterns.
 */

const MAX_STEPS = 1e7;
// Syntax that JavaScript does not have, or understands in another way: other escapes, flags of groups, named classes,
// classes that begin with ], counts like {02}, which are texts in RE2, and \B, which RE2 also finds between the bytes
// of a character.
const OTHER = /^\\[^\WdDwWsSbnrtfv]|^\[(?:$|\^]|.*(?:\\[^\WdDwWnrtfv]|\[:))|^\{.*\b0\d|^\(\?$/s;
const TRANSLATED: Readonly<Record<string, string>> = {
  ".": "[^\\n]",
  "\\s": "[\\t\\n\\f\\r ]",
  "\\S": "[^\\t\\n\\f\\r ]",
};
// One piece of a pattern: an escape, a class, a counted repetition, the beginning of a group, or a character.
const PIECES = /\\.|\[(?:\\.|[^\]\\])+\]|\{\d+,?\d*\}|\(\?:?|./gsu;

/** Return a test for a pattern, or undefined if only the service can check it. */
export function matcherOf(pattern: string, maxLength: number): ((text: string) => boolean) | undefined {
  const pieces = pattern.match(PIECES) ?? [];
  if (pieces.some((piece) => OTHER.test(piece)) || steps(pieces, maxLength) > MAX_STEPS) return undefined;
  try {
    const compiled = new RegExp(pieces.map((piece) => TRANSLATED[piece] ?? piece).join(""), "u");
    return (text) => compiled.test(text);
  } catch {
    return undefined; // the pattern is not valid in JavaScript
  }
}

/** Return an upper limit for the steps of a search. It is infinite if a group is repeated. */
function steps(pieces: readonly string[], length: number): number {
  let count = pieces[0] === "^" && !pieces.includes("|") ? 1 : length;
  for (const [index, piece] of pieces.entries()) {
    if (/^[|?]/.test(piece)) count *= 2;
    else if (/^[*+]|^\{\d/.test(piece)) {
      if (pieces[index - 1] === ")") return Number.POSITIVE_INFINITY;
      if (/[*+,]/.test(piece)) count *= length;
    }
  }
  return count;
}
