"""Programs that tests need beside Python. In CI a missing one is a failure; elsewhere its tests are skipped."""

import os
import shutil
from pathlib import Path

import pytest


def executable(name: str, directory: Path | None = None) -> str:
    """Return the path of a program of the system or in a directory, or skip or fail the test that asks."""
    system = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])
    found = shutil.which(name, path=str(directory) if directory else system)
    if found is None:
        message = f"no {name}: `make programs` installs it, as root where it is Debian's"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found
