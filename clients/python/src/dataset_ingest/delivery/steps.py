"""The steps that generators of this package yield, and the replies that they get.

A generator yields a step. The client takes the step, and sends the reply to the generator. So threads and asyncio share
the same logic.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec


@dataclass(frozen=True)
class Request:
    """Send a request. The reply is an Answer, or NoAnswer."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True)
class Pause:
    """Wait for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Write:
    """Call a function that writes to the spool."""

    call: Callable[[], None]


@dataclass(frozen=True)
class Answer:
    """The answer of the service. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def body(self) -> dict[str, Any]:
        """Return the JSON object in the body.

        Return an empty object if the body is something else. For example, a proxy may send HTML.
        """
        try:
            return msgspec.json.decode(self.content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}


@dataclass(frozen=True)
class NoAnswer:
    """The request has failed, and there is no answer."""

    reason: str
    was_sent: bool  # whether the service may have received the request


Step = Request | Pause | Write
Reply = Answer | NoAnswer | None
Result = TypeVar("Result")
Steps = Generator[Step, Reply, Result]


def replied(reply: Reply) -> Answer | NoAnswer:
    """Return the reply to a request. It must not be None."""
    if reply is None:
        raise TypeError("A request needs a reply.")
    return reply


def drive(steps: Steps[Result], take: Callable[[Step], Reply]) -> Result:
    """Take the steps of a generator, and return its result."""
    reply: Reply = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as end:
            result: Result = end.value
            return result
        reply = take(step)
