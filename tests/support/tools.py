"""Find programs that tests need. If one is missing, its tests fail in CI, and are skipped elsewhere."""

import os
import shutil
from pathlib import Path

import pytest


def executable(name: str, directory: Path | None = None) -> str:
    """Return the path of a program on the system or in a directory. If it is missing, skip or fail the test."""
    system = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])
    found = shutil.which(name, path=str(directory) if directory else system)
    if found is None:
        message = f"no {name}: `make programs` installs it, as root where it is Debian's"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found
