"""What can be wrong with a query, and how the caller learns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a query.

    Attributes:
        at: The path in the body, like `where[1].op`. It is empty for the body as a whole.
        expected: What may be there.
        received: What was there, as JSON, cut to 100 characters; `nothing` for a missing member.
        detail: One sentence for people.
    """

    at: str
    expected: str
    received: str
    detail: str

    def as_json(self) -> dict[str, str]:
        """Return the problem as a member of an error's details."""
        return {"at": self.at, "expected": self.expected, "received": self.received, "detail": self.detail}


class InvalidQuery(Exception):
    """The query is wrong. `problems` has at least one entry, in the order of the language's members."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)  # these arguments let the error pass between processes
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
        """What the first problem's place may have."""
        return self.problems[0].expected

    @property
    def received(self) -> str:
        """What the first problem's place had."""
        return self.problems[0].received


class ResultOutOfRange(InvalidQuery):
    """An aggregate has no value that JSON or its column could hold: a sum is too large, for example."""


class QueryTooLarge(Exception):
    """The query needs more memory than it may use."""


class QueryTooSlow(Exception):
    """The query took longer than it may."""
