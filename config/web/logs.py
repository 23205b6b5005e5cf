"""What the web processes write to their log."""

import logging


class WithoutTracebackOfRefusal(logging.Filter):
    """Remove the traceback if the request was wrong (4xx). Otherwise a client could write 10 KB for each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 500) < 500:  # Django adds it to the records about its answers
            record.exc_info = None
        return True
