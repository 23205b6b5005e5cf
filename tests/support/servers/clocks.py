"""Clocks of servers."""

from collections.abc import Mapping
from pathlib import Path

import libfaketime


def behind(seconds: int) -> Mapping[str, str]:
    """Return the environment of a process whose clock is behind by `seconds`. Its monotonic clock is right."""
    (library,) = Path(libfaketime.__file__).parent.rglob("libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": f"-{seconds}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
