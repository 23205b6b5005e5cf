"""Collect the problems of a query, and read the simple parts of its JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from datasets.queries.errors import InvalidQuery, QueryProblem
from datasets.queries.parsing.values import as_received
from datasets.schemas.fields import shown

_MAX_PROBLEMS = 20
_MAX_LISTED = 300  # characters of a list of names in an error
MISSING: Any = object()
# The name of a result column must be written like the name of a field.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}").fullmatch


class Problems:
    """Collects the problems of a query."""

    def __init__(self) -> None:
        self._found: list[QueryProblem] = []

    def add(self, at: str, expected: str, received: Any, detail: str) -> None:
        """Add a problem. `received` is a value from JSON, or MISSING."""
        if len(self._found) < _MAX_PROBLEMS:
            text = "nothing" if received is MISSING else as_received(received)
            self._found.append(QueryProblem(at, expected, text, detail))

    @property
    def count(self) -> int:
        """The number of problems so far."""
        return len(self._found)

    def raise_if_any(self) -> None:
        """Raise InvalidQuery if there are problems."""
        if self._found:
            raise InvalidQuery(self._found)

    def members(self, at: str, given: Any, known: Collection[str]) -> Mapping[str, Any] | None:
        """Return `given` if it is an object, else None. Add a problem for each member with an unknown name."""
        if not isinstance(given, Mapping):
            where = f"“{at}”" if at else "A query"
            self.add(at, "object", given, f"{where} must be an object.")
            return None
        for name in given:
            if name not in known:
                detail = f"There is no “{shown(str(name))}” here. Known names: {', '.join(known)}."
                self.add(inside(at, str(name)), f"one of {', '.join(known)}", given[name], detail)
        return given

    def items(self, at: str, given: Any, maximum: int, *, minimum: int = 0) -> Iterator[tuple[str, Any]]:
        """Yield the path and the value of each element of `given`.

        If `given` is not an array of `minimum` to `maximum` elements, yield nothing and add a problem.
        """
        expected = f"array of {minimum} to {maximum} elements"
        if not isinstance(given, list):
            self.add(at, expected, given, f"“{at}” must be an array.")
        elif not minimum <= len(given) <= maximum:
            detail = f"“{at}” has {len(given)} elements. It may have {minimum} to {maximum}."
            self.add(at, expected, given, detail)
        else:
            yield from ((f"{at}[{number}]", each) for number, each in enumerate(given))

    def choice(self, at: str, given: Any, choices: Iterable[str], what: str) -> str | None:
        """Return `given` if it is one of the choices, else None. The problem calls it `what`, like `operator`."""
        known = tuple(choices)
        if isinstance(given, str) and given in known:
            return given
        if not known:
            detail = f"No {what} can be used here: the dataset or the query has none that fits."
            self.add(at, "nothing", given, detail)
            return None
        fault = "is missing" if given is MISSING else "is not known here"
        self.add(at, f"one of {listed(known)}", given, f"The {what} {fault}. Use one of: {listed(known)}.")
        return None

    def name(self, at: str, given: Any) -> str | None:
        """Return the name of a result column, or None if it is invalid."""
        if isinstance(given, str) and _NAME(given):
            return given
        detail = "A name has at most 63 letters, digits and _, and does not start with a digit."
        self.add(at, "name of at most 63 letters, digits and _", given, detail)
        return None


def inside(at: str, name: str) -> str:
    """Return the path of a member of an object."""
    return f"{at}.{shown(name)}" if at else shown(name)


def listed(names: Iterable[str]) -> str:
    """Return names for an error: all of them, or the first ones and the number of the others."""
    known = list(names)
    kept: list[str] = []
    for each in known:
        if kept and len(", ".join((*kept, each))) > _MAX_LISTED:
            return f"{', '.join(kept)} and {len(known) - len(kept)} others"
        kept.append(each)
    return ", ".join(kept)
