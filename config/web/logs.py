"""What the processes write to their logs."""

import logging
from types import TracebackType

from config.common.text import visible, visible_lines

_Error = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class OneLineFormatter(logging.Formatter):
    """Write each message on one line, without control characters. Otherwise a client could forge lines of the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _Error) -> str:  # noqa: N802
        return visible_lines(super().formatException(ei))


class WithoutTracebackOfRefusal(logging.Filter):
    """Remove the traceback if the request was wrong (4xx). Otherwise a client could write 10 KB for each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Django adds `status_code` to its log records about answers.
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = None
        return True
