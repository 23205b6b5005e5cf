"""The errors of the clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dataset_ingest.schema.problems import Problem


class DatasetError(Exception):
    """The base of all errors of the clients. An error without a class of its own has this class.

    Attributes:
        status: The HTTP status, or None if there was no answer.
        code: A stable code, like `quota_exceeded`.
        request_id: The `X-Request-Id` of the answer. The log of the service contains the same ID.
        dataset_id: The dataset, or None for the project's default dataset.
        indexes: The indexes of the affected records in the list that was passed to `send`. After `enqueue`, this is
            `(0,)`, or empty if the client has given up a batch that it found in the spool.
        retry_after: The seconds after which the service suggests another attempt.
        body: The whole answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        dataset_id: int | None = None,
        indexes: Sequence[int] = (),
        retry_after: float | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.dataset_id = dataset_id
        self.indexes = tuple(indexes)
        self.retry_after = retry_after
        self.body: Mapping[str, Any] = body or {}

    def __str__(self) -> str:
        where = "" if self.dataset_id is None else f" (dataset {self.dataset_id})"
        request = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.message}{where}{request}"


class ValidationError(DatasetError):
    """Records do not match the schema, or a query or a change is invalid.

    The client has sent nothing, or the service has refused the request. `problems` lists at most 20 problems, and
    `truncated` says whether there are more.
    """

    def __init__(
        self, message: str, *, problems: Sequence[Problem] = (), truncated: bool = False, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.problems = tuple(problems)
        self.truncated = truncated

    def of_one(self, problems: Sequence[Problem]) -> ValidationError:
        """Return the error of one enqueued record. `problems` are its problems, selected from those of the batch."""
        found = tuple(replace(problem, index=0) for problem in problems)
        return ValidationError(
            str(found[0]),
            problems=found,
            status=self.status,
            code=found[0].code,
            request_id=self.request_id,
            dataset_id=self.dataset_id,
            indexes=(0,),
            body=self.body,
        )


class AuthenticationError(DatasetError):
    """The service refuses the API key or the token."""


class QuotaExceededError(DatasetError):
    """The monthly quota has no room for the records. `quota` has the figures. `resets_at` is the end of the month."""

    @property
    def quota(self) -> Mapping[str, Any]:
        """The limit, the numbers of used, requested and remaining records, the period, and when the period ends."""
        found: Mapping[str, Any] = self.body.get("quota", {})
        return found

    @property
    def resets_at(self) -> str | None:
        """The end of the quota's month, as an RFC 3339 text."""
        return self.quota.get("resets_at")


class RateLimitedError(DatasetError):
    """The service accepts no more requests for now."""


class ServiceUnavailableError(DatasetError):
    """The service could not be reached, or could not accept the records. It has certainly not accepted them."""


class OutcomeUnknownError(DatasetError):
    """The client has stopped retrying, and the service may have accepted the records.

    If the program sends them again, they may be stored twice.
    """


class BufferFullError(DatasetError):
    """The buffer has no room for the record: the service does not answer, or is slower than the program."""


class ClosedError(DatasetError):
    """The client is closed. If there is a spool, the next client sends the records that were enqueued before."""
