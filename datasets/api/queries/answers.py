"""Run a query for a client: hold a permit of the project, and send the result that a query process has written."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from config.common.errors import ApiError, InternalError
from datasets.api.errors import ServiceUnavailable
from datasets.api.queries.errors import InvalidQuery, QueryTooLarge, QueryTooSlow, TooManyQueries
from datasets.queries import errors as causes
from datasets.queries.processes import permits, pool
from datasets.queries.processes.messages import Failure, Job, Outcome
from datasets.queries.processes.permits import Permit

_PART_BYTES = 256 * 1024

_OTHERS = "Other queries use all processors. Wait a few seconds, then send this query again."
_ENDED = "The process that ran the query has ended. Send the query again."
_LESS = "Choose a shorter range, select fewer fields, or group by fields with fewer values."


def answer(project_id: int, job: Job, is_canceled: Callable[[], bool]) -> HttpResponseBase:
    """Run a query, and return the response with its result.

    Raises:
        InvalidQuery: The query has no result. For example, a sum is too large.
        QueryTooSlow: The query has reached the time limit.
        QueryTooLarge: The query has reached the memory limit.
        TooManyQueries: The project runs too many queries now, or other queries use all processors.
        ServiceUnavailable: The table cannot be read, or the process has ended.
        QueryCanceled: The client has disconnected.
    """
    limit = settings.QUERY_CONCURRENCY
    permit = permits.take(f"project_{project_id}", limit)
    if permit is None:
        detail = (
            f"The project runs {limit} queries already, the maximum. Send this one again when one of them has ended."
        )
        raise TooManyQueries({"detail": detail, "limit": limit})
    file = tempfile.TemporaryFile(dir=permits.folder())  # noqa: SIM115  # the response closes it
    try:
        with _translated():
            outcome = pool.POOL.run(job, file, is_canceled)
        if outcome.failure is not None:
            raise _refusal(outcome)
        return _response(file, permit, job, outcome)
    except BaseException:
        file.close()
        permit.release()
        raise


@contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of the query processes into errors that clients see."""
    try:
        yield
    except causes.QueryTooSlow as slow:
        limit = settings.QUERY_TIMEOUT_SECONDS
        raise QueryTooSlow(
            {"detail": f"The query was stopped after {limit:g} seconds. {_LESS}", "limit": limit}
        ) from slow
    except causes.QueryTooLarge as large:
        raise _too_large() from large
    except pool.NoProcessor as busy:
        raise TooManyQueries({"detail": _OTHERS}) from busy
    except pool.ProcessEnded as ended:
        raise ServiceUnavailable({"detail": _ENDED}) from ended


def _too_large() -> ApiError:
    limit = settings.QUERY_MEMORY_BYTES
    return QueryTooLarge({"detail": f"The query needs more than {limit:,} bytes of memory. {_LESS}", "limit": limit})


def _refusal(outcome: Outcome) -> ApiError:
    """Return the error for an outcome without a result."""
    match outcome.failure:
        case Failure.INVALID:
            return InvalidQuery(outcome.details)
        case Failure.TOO_LARGE:
            return _too_large()
        case Failure.UNREADABLE:
            return ServiceUnavailable(outcome.details)
    return InternalError()


def _response(file: IO[bytes], permit: Permit, job: Job, outcome: Outcome) -> HttpResponseBase:
    """Return a response that closes the file and releases the permit as soon as it does not need them any more."""
    size = file.seek(0, 2)
    file.seek(0)
    response: HttpResponseBase
    if size <= _PART_BYTES:
        response = HttpResponse(file.read())
        file.close()
        permit.release()
    else:
        response = StreamingHttpResponse(_Parts(file, permit))
    for name, value in {"Content-Type": job.media_type, "Content-Length": str(size), **outcome.headers}.items():
        response[name] = value
    return response


class _Parts:
    """Yields the parts of a result. It holds the project's permit until it is closed: this limits the open files."""

    def __init__(self, file: IO[bytes], permit: Permit) -> None:
        self._file, self._permit = file, permit

    def __iter__(self) -> Iterator[bytes]:
        while part := self._file.read(_PART_BYTES):
            yield part

    def close(self) -> None:
        """Close the file and release the permit. Django calls this at the end of the response."""
        self._file.close()
        self._permit.release()
