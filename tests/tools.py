"""Programs that tests need beside Python. In CI a missing one is a failure; elsewhere its tests are skipped."""

import os
import shutil

import pytest


def executable(name: str) -> str:
    """Return the path of a program, or skip or fail the test that asks."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"]))
    if found is None:
        message = f"no {name}: as root, `make programs` installs Debian's"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found
