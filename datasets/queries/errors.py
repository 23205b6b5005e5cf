"""The errors of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryProblem:
    """One thing that is wrong with a query.

    Attributes:
        at: The path in the body, like `where[1].op`. It is empty for the body as a whole.
        expected: What may be at this path.
        received: What is at this path: JSON that is cut to 100 characters, `array` or `object`. Or `nothing` if the
            member is missing.
        detail: An explanation for people.
    """

    at: str
    expected: str
    received: str
    detail: str

    def as_json(self) -> dict[str, str]:
        """Return the problem as clients see it in `errors`."""
        return {"at": self.at, "expected": self.expected, "received": self.received, "detail": self.detail}


class InvalidQuery(Exception):
    """The query is wrong. `problems` has at least one entry, in the order of `language.MEMBERS`."""

    def __init__(self, problems: Sequence[QueryProblem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        first = self.problems[0]
        return f"{first.at}: {first.detail}" if first.at else first.detail

    @property
    def at(self) -> str:
        """The path of the first problem."""
        return self.problems[0].at

    @property
    def expected(self) -> str:
        """What may be at this path."""
        return self.problems[0].expected

    @property
    def received(self) -> str:
        """What is at this path."""
        return self.problems[0].received


class ResultOutOfRange(InvalidQuery):
    """A result is too large for its type or for JSON, such as a sum."""


class QueryTooLarge(Exception):
    """The query needs more memory than it may use."""


class QueryTooSlow(Exception):
    """The query takes longer than it may."""
