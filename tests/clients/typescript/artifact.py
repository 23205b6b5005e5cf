"""The TypeScript client as its users get it: packed by npm, and installed into a program's folder."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from tests.support.documents import ROOT
from tests.support.tools import executable, node_packages

PACKAGE = ROOT / "clients" / "typescript"
README = (PACKAGE / "README.md").read_text()


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program of Node.js. Return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-5_000:]
    return done.stdout


@lru_cache(maxsize=1)
def source() -> Path:
    """Return a copy of the package, because several processes build it at the same time."""
    node_packages(PACKAGE)
    copy = Path(tempfile.mkdtemp(prefix="typescript-client-")) / "clients" / "typescript"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("node_modules", "dist", "build"))
    (copy / "node_modules").symlink_to(PACKAGE / "node_modules")
    (copy.parents[1] / "tests").symlink_to(ROOT / "tests")  # its tests read tests/contract
    return copy


@lru_cache(maxsize=1)
def packed() -> Path:
    """Build and pack the package. Return the archive."""
    npm = executable("npm")
    (made,) = json.loads(run(npm, "pack", "--json", "--silent", cwd=source()))
    return source() / str(made["filename"])


@lru_cache(maxsize=1)
def program() -> Path:
    """Return the folder of a program that has the package installed."""
    folder = Path(tempfile.mkdtemp(prefix="typescript-program-"))
    (folder / "package.json").write_text('{"private": true}')
    run(executable("npm"), "install", "--offline", "--no-audit", "--no-fund", packed(), cwd=folder)
    return folder


def snippets() -> list[str]:
    """Return the examples of the README."""
    return re.findall(r"```ts\n(.*?)```", README, re.DOTALL)
