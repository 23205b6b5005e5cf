"""The Python client as its users get it: a wheel, installed into a fresh virtual environment."""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import lru_cache
from pathlib import Path

from tests.support.documents import ROOT

PACKAGE = ROOT / "clients" / "python"
_UV = Path(sys.executable).with_name("uv")


@lru_cache(maxsize=1)
def environment() -> Path:
    """Build the wheel. Install it into a new environment that also sees our packages. Return the environment's path.

    The wheel is built from a copy, because building leaves files behind.
    """
    directory = Path(tempfile.mkdtemp(prefix="dataset-ingest-client-"))
    shutil.copytree(PACKAGE, directory / "source")
    _uv(
        "build",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        directory,
        directory / "source",
    )
    (wheel,) = directory.glob("*.whl")
    made = directory / "environment"
    _uv("venv", "--python", sys.executable, made)
    _uv("pip", "install", "--no-deps", "--python", made / "bin" / "python", wheel)
    (packages(made) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made


def packages(made: Path) -> Path:
    """Return the folder of an environment that has its packages."""
    (found,) = made.glob("lib/python*/site-packages")
    return found


def _uv(*arguments: str | Path) -> None:
    done = subprocess.run([_UV, "--quiet", "--offline", "--no-config", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
