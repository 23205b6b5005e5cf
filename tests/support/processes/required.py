"""Find the modules that are installed for the tests only."""

from functools import cache
from importlib.metadata import packages_distributions

from packaging.utils import canonicalize_name

from config.common.env import BASE_DIR
from tests.support.lock import locked


@cache
def absent() -> str:
    """Return the top-level modules that requirements.txt does not install, separated by spaces."""
    required = {*locked(BASE_DIR / "requirements.txt"), "pip", "setuptools"}
    modules = packages_distributions().items()
    return " ".join(sorted(name for name, owners in modules if not required & {*map(canonicalize_name, owners)}))
