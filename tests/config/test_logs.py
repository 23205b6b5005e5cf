"""The log of the web processes."""

import logging.config
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

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
