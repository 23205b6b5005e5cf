"""Hide modules from the processes of a stack, if they are installed only for the tests.

At its start, Python imports a module of this name if its directory is on PYTHONPATH. If the modules were not hidden, no
test would notice that requirements.txt lacks a package that the tests install, too.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_ABSENT = frozenset(os.environ["E2E_ABSENT"].split())


class _Absent(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in _ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r} (it is not required)", name=fullname)
        return None


sys.meta_path.insert(0, _Absent())
