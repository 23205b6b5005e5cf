"""What the web processes write to their log."""

import logging


class WithoutTracebackOfRefusal(logging.Filter):
    """Remove the traceback if the request was wrong (4xx). Otherwise a client could write 10 KB for each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        # Django adds `status_code` to its log records about answers.
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = None
        return True
