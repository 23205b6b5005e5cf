"""Large packages that are imported when they are first used, not when a module that uses them is imported.

pyarrow, numpy and delta-rs take about 25 MB in each process. Beat never uses them. A web process uses them only for
pages and receipts that read a table. DuckDB is used only by queries. RE2 takes 3 MB, and is used only if a schema has a
pattern. Import them from here: `from config.lazy import pyarrow as pa`. A module that names their classes in
annotations needs `from __future__ import annotations`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = [
    "deltalake",
    "duckdb",
    "numpy",
    "pyarrow",
    "pyarrow_compute",
    "pyarrow_csv",
    "pyarrow_dataset",
    "pyarrow_parquet",
    "re2",
]

if TYPE_CHECKING:
    import deltalake
    import duckdb
    import numpy
    import pyarrow
    import pyarrow.compute as pyarrow_compute
    import pyarrow.csv as pyarrow_csv
    import pyarrow.dataset as pyarrow_dataset
    import pyarrow.parquet as pyarrow_parquet
    import re2


class _LazyModule:
    """Stands for a module. The first use of an attribute imports the module; later uses cost nothing more."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:  # called only for attributes that are not in __dict__ yet
        value = getattr(import_module(self._name), attribute)
        self.__dict__[attribute] = value
        return value


if not TYPE_CHECKING:
    deltalake = _LazyModule("deltalake")
    duckdb = _LazyModule("duckdb")
    numpy = _LazyModule("numpy")
    pyarrow = _LazyModule("pyarrow")
    pyarrow_compute = _LazyModule("pyarrow.compute")
    pyarrow_csv = _LazyModule("pyarrow.csv")
    pyarrow_dataset = _LazyModule("pyarrow.dataset")
    pyarrow_parquet = _LazyModule("pyarrow.parquet")
    re2 = _LazyModule("re2")


def import_for_drains() -> None:
    """Import now what a drain uses, so that the first drain does not wait for the imports."""
    for name in ("deltalake", "numpy", "pyarrow", "pyarrow.compute"):
        import_module(name)


def import_for_queries() -> None:
    """Import now what a query uses, so that the first query does not wait for the imports."""
    for name in ("deltalake", "duckdb", "pyarrow", "pyarrow.compute"):
        import_module(name)
