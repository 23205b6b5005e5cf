"""Read requirements files: the direct dependencies, and the locks that `make lock` writes from them."""

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Locked:
    """One package of a lock."""

    requirement: Requirement
    hashes: frozenset[str]
    asked_by: frozenset[str]  # the packages that need it, and requirements files as "-r path"


def direct(file: Path) -> dict[str, Requirement]:
    """Return the packages that a requirements file without hashes names."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {canonicalize_name(each.name): each for each in found}


def locked(file: Path) -> dict[str, Locked]:
    """Return the packages of a lock."""
    found: dict[str, Locked] = {}
    for block in re.split(r"^(?=\w)", file.read_text(), flags=re.MULTILINE)[1:]:
        requirement = Requirement(block.splitlines()[0].rstrip(" \\"))
        asked_by = re.findall(r"^    # +(?:via )?(\S.*)$", block, flags=re.MULTILINE)
        hashes = re.findall(r"--hash=(\S+)", block)
        found[canonicalize_name(requirement.name)] = Locked(requirement, frozenset(hashes), frozenset(asked_by))
    return found
