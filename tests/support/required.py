"""What requirements.txt brings along, and what of the rest is installed for the tests."""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

from packaging.requirements import Requirement

from config.common.env import BASE_DIR


def _name(of: str) -> str:
    return re.sub(r"[-_.]+", "-", of).lower()


@cache
def absent() -> str:
    """The top-level modules that only the tests have, as words."""
    lines = (line.partition("#")[0].strip() for line in (BASE_DIR / "requirements.txt").read_text().splitlines())
    waiting, required = [Requirement(line) for line in lines if line], {"pip", "setuptools"}
    seen: set[tuple[str, str]] = set()
    while waiting:
        each = waiting.pop()
        required.add(_name(each.name))
        for extra in ("", *each.extras):
            if (_name(each.name), extra) in seen:
                continue
            seen.add((_name(each.name), extra))
            try:
                needs = [Requirement(line) for line in distribution(each.name).requires or ()]
            except PackageNotFoundError:
                continue  # of another platform
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    modules = packages_distributions().items()
    return " ".join(sorted(module for module, owners in modules if not required & {_name(each) for each in owners}))
