"""The messages between a web process and a query process. They use a pair of connected sockets.

The query process sends `READY` when it has started. For a query, the web process writes a job to a file and sends the
file's descriptor. The query process replaces the job in the file with the result, and sends its outcome. Job and
outcome are JSON, because a schema may limit a decimal to numbers that are too large for MessagePack.
"""

import socket
from enum import Enum
from typing import IO, Any

import msgspec

from datasets.queries.errors import InvalidQuery
from datasets.queries.execution.snapshot import Location
from datasets.schemas.fields import Field

READY = b"!"
_JOB = b"?"
_LENGTH_BYTES = 4


class Job(msgspec.Struct, frozen=True):
    """A query to run.

    Attributes:
        query: The request's body.
        fields: The declared fields of the dataset.
        location: Where the table is.
        media_type: The format of the result.
        memory: How many bytes of memory the query may take.
        max_characters: The length to which long values of the result are cut. None if they are not cut.
    """

    query: bytes
    fields: list[Field]
    location: Location
    media_type: str
    memory: int
    max_characters: int | None = None


class Failure(Enum):
    """Why a query has no result."""

    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    DEFECT = "defect"


class Outcome(msgspec.Struct, frozen=True):
    """How a query ended.

    Attributes:
        failure: None if the file has the result.
        details: What the client reads about the failure.
        headers: Headers of the answer that describe the result.
    """

    failure: Failure | None = None
    details: dict[str, Any] = {}
    headers: dict[str, str] = {}


def details_of(invalid: InvalidQuery) -> dict[str, Any]:
    """Return what a client reads about a wrong query: its first problem, and all problems in `errors`."""
    problems = [problem.as_json() for problem in invalid.problems]
    return {**problems[0], "errors": problems}


def send_job(connection: socket.socket, job: Job, file: IO[bytes]) -> None:
    """Send a job with the file for its result."""
    file.write(msgspec.json.encode(job))
    file.flush()
    file.seek(0)
    socket.send_fds(connection, [_JOB], [file.fileno()])


def receive_job(connection: socket.socket) -> tuple[Job, IO[bytes]] | None:
    """Return the next job and the empty file for its result. Return None if the web process has ended."""
    received, descriptors, _, _ = socket.recv_fds(connection, len(_JOB), 1)
    if not received:
        return None
    file = open(descriptors[0], "r+b", buffering=0)  # noqa: SIM115  # the caller closes it
    job = msgspec.json.decode(file.read(), type=Job)
    file.seek(0)
    file.truncate()
    return job, file


def send_outcome(connection: socket.socket, outcome: Outcome) -> None:
    """Send the outcome of a job."""
    packed = msgspec.json.encode(outcome)
    connection.sendall(len(packed).to_bytes(_LENGTH_BYTES) + packed)


def receive_outcome(connection: socket.socket) -> Outcome:
    """Return the outcome of a job. Raise EOFError if the query process has ended."""
    length = int.from_bytes(_receive(connection, _LENGTH_BYTES))
    return msgspec.json.decode(_receive(connection, length), type=Outcome)


def _receive(connection: socket.socket, size: int) -> bytes:
    received = connection.recv(size, socket.MSG_WAITALL)
    if len(received) < size:
        raise EOFError
    return received
