"""Find programs that tests need. If one is missing, its tests fail in CI, and are skipped elsewhere."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def executable(name: str, directory: Path | None = None) -> str:
    """Return the path of a program on the system or in a directory. If it is missing, skip or fail the test."""
    system = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])
    found = shutil.which(name, path=str(directory) if directory else system)
    if found is None:
        _skip_or_fail(name)
    return found


def node_packages(directory: Path) -> None:
    """Skip or fail the test if the Node packages of a directory are not installed."""
    if not (directory / "node_modules").exists():
        _skip_or_fail(f"node_modules in {directory}")


def _skip_or_fail(what: str) -> NoReturn:
    message = f"no {what}: `make programs` installs it, as root where it is Debian's"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
