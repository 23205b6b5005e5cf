"""The logs of the processes."""

import logging.config
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.test import Client


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Return the log of a process with our settings."""
    ours: dict[str, Any] = settings.LOGGING
    written, root = StringIO(), logging.getLogger()
    before = root.handlers
    logging.config.dictConfig({**ours, "handlers": {"console": {**ours["handlers"]["console"], "stream": written}}})
    yield written
    root.handlers = before


def test_a_wrong_request_to_the_admin_is_one_line(admin_client: Client, log: StringIO) -> None:
    assert admin_client.get("/admin/datasets/dataset/?nonsense=1").status_code == 400
    assert len(log.getvalue().splitlines()) == 1
    assert "invalid value.: /admin/datasets/dataset/" in log.getvalue()


def test_a_defect_has_its_traceback_in_the_log(log: StringIO) -> None:
    try:
        raise LookupError("a defect")
    except LookupError:
        logging.getLogger("django.request").error("broken", exc_info=sys.exc_info(), extra={"status_code": 500})
    assert "LookupError: a defect" in log.getvalue()


FORGED = {
    "line": "x\n2026-11-29 13:00:00,000 INFO root forged",
    "null": "\0",
    "escape": "\x1b[31m",
    "separator": "\u2028",
}


@pytest.mark.parametrize("text", FORGED.values(), ids=FORGED)
def test_no_client_can_forge_a_line(admin_client: Client, log: StringIO, text: str) -> None:
    """Django quotes what a client has sent, here the name of a field."""
    assert admin_client.get(f"/admin/datasets/apikey/?_to_field={quote(text)}").status_code == 400
    logging.getLogger("ingest").error("broken: %s", text)
    written = log.getvalue()
    assert len(written.split("\n")) == 3, "two lines, and nothing after the last line break"
    assert text not in written


def test_a_text_that_utf_8_cannot_encode_is_written(log: StringIO) -> None:
    record = logging.LogRecord("ingest", logging.ERROR, "", 1, "broken: %s", ("\ud800",), None)
    assert logging.getLogger().handlers[0].format(record).endswith(r" ERROR ingest broken: \ud800")


def test_an_error_text_cannot_forge_a_line(log: StringIO) -> None:
    try:
        raise LookupError("\x1b[31m a defect")
    except LookupError:
        logging.getLogger("ingest").exception("broken")
    assert "\\x1b[31m a defect" in log.getvalue()
    assert log.getvalue().count("\n") > 3
