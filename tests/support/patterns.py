"""Random patterns that RE2 accepts, and texts: where regular expressions of other languages could differ."""

import random
from collections.abc import Iterator

from datasets.schemas.constraints import constraint_problem
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import Field

MAX_LENGTH = 20
_ATOMS = [
    *("a", "b", ".", r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"\b", r"\B", r"\v", r"\f", r"\x41", r"\x{41}", r"\0"),
    *("é", "😀", "^", "$", "]", "}", "{", "{2", "{,2}", "a{02}", "-", "/", r"\/", r"\-", r"\_", r"\.", r"\]", r"\ "),
    *(r"\pL", r"\p{Greek}", r"\A", r"\z", r"\Q.\E", "(?i)", "(?s).", "(?m)^", "(?-s:.)", "(?P<n>a)", r"\C", "\n"),
    *("[[:alpha:]]", "[a[:digit:]]", "[[:^space:]]", "[:a]", "[]a]", "[^]a]", "[][b]", "[^][b]", r"[\s]", r"[^\s]"),
    *(r"[\S]", r"[^\S]", r"[\s-a]", r"[\w-]", r"[\d-z]", "[-a]", "[a-]", "[a-b-é]", "[--a]", "[a^]", "[^^]", "[[a]"),
    *(r"[\_\-]", r"[\]a]", r"[\n-a]", r"[\x41-\x43]", r"[^\W]", r"[^\d\w]", r"[\D]", "[a&&b]", "[^a]"),
    *("[é-😀]", "[^é]"),
]
_ENDS = ["", "", "", "*", "+", "?", "{2}", "{0,1}", "{1,}", "{01}", "+?", "??"]
_CHARACTERS = "aabA1_-]}{[^/.: \t\n\v\f\r\0\x85\xa0é😀\u2028\u2029\ufeff٣ſ\u212a"


def _pattern(chance: random.Random, levels: int = 2) -> str:
    parts = []
    for _ in range(chance.randint(1, 3)):
        shape = chance.randrange(6 if levels else 4)
        inner = _pattern(chance, levels - 1) if shape > 3 else chance.choice(_ATOMS)
        part = {4: f"({inner})", 5: f"(?:{inner}|{chance.choice(_ATOMS)})"}.get(shape, inner)
        parts.append(part + chance.choice(_ENDS))
    return chance.choice(["", "^"]) + "".join(parts) + chance.choice(["", "$"])


def patterns(seed: int, count: int) -> Iterator[tuple[Field, list[str]]]:
    """Yield each field that has a pattern, with some texts. Every atom is also a pattern itself."""
    chance = random.Random(seed)
    kind = type_of(Field("value", "string"))
    made = [*_ATOMS, *(f"^{atom}$" for atom in _ATOMS), *(_pattern(chance) for _ in range(count))]
    for pattern in made:
        field = Field("value", "string", pattern=pattern, max_length=MAX_LENGTH)
        if constraint_problem(kind, field) is None:
            texts = ["".join(chance.choices(_CHARACTERS, k=chance.randint(0, 4))) for _ in range(20)]
            yield field, ["", *_CHARACTERS, *texts]
