"""Set the service's clock ahead in the processes of a fault run. Each look at the clock reads the seconds from a file.

Python imports a module of this name at start if its directory is on PYTHONPATH. The product knows nothing of it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_AHEAD = Path(os.environ["FAULTS_SECONDS_AHEAD"])


def now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=float(_AHEAD.read_text()))


class _Clock(MetaPathFinder):
    """Finds config.common.clock like any module, and replaces its `now` once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "config.common.clock":
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.loader is not None
        _patch(spec.loader)
        return spec


def _patch(loader: Loader) -> None:
    load: Callable[[ModuleType], None] = loader.exec_module

    def load_and_move(module: ModuleType) -> None:
        load(module)
        module.now = now  # type: ignore[attr-defined]

    loader.exec_module = load_and_move  # type: ignore[method-assign]


sys.meta_path.insert(0, _Clock())
