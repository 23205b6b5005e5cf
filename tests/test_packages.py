"""Folders and files stay small, and retired names do not come back."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.documents import ROOT

FOLDERS = ("clients", "config", "datasets", "ingest", "quotas", "tests")
MAX_MODULES = 12
MAX_LINES = 400
RETIRED = (
    "MOST_",
    "LONGEST_",
    "LARGEST_",
    "ToldAdmin",
    "RememberedAdmin",
    "checkup",
    "Overtaken",
    "NeverStill",
    "currents",
    "env.truth",
    "env.texts",
    "env.least",
)


def files(*suffixes: str) -> list[Path]:
    """Return the files of product and tests with these suffixes, relative to the repository."""
    found = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return [path for path in found if path.suffix in suffixes and not {"node_modules", "dist", "build"} & {*path.parts}]


def test_a_folder_has_at_most_a_dozen_modules() -> None:
    modules = Counter(str(path.parent) for path in files(".py") if path.name != "__init__.py")
    assert len(modules) > 40
    assert {folder: count for folder, count in modules.items() if count > MAX_MODULES} == {}


def test_a_file_has_at_most_400_lines() -> None:
    sources = files(".py", ".lua", ".js", ".mjs", ".ts", ".css", ".html")
    assert len(sources) > 400
    assert [str(path) for path in sources if len((ROOT / path).read_text().splitlines()) > MAX_LINES] == []


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_name_is_not_used_again(name: str) -> None:
    whole = re.compile(rf"\b_?{re.escape(name)}" + ("" if name.endswith("_") else r"\b"))
    sources = [path for path in files(".py", ".lua", ".js", ".mjs", ".html", ".md") if path.name != "test_packages.py"]
    assert [str(path) for path in sources if whole.search((ROOT / path).read_text())] == []
