"""Read the README and the other documents for tests."""

import re
from collections.abc import Iterator
from pathlib import Path

from config.common.errors import ApiError

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "clients").glob("*/README.md"),
        ROOT / "tests" / "README.md",
    ]
)


def table(name: str) -> list[list[str]]:
    """Return the cells of a marked table's rows. Exactly one document has the marker."""
    (page,) = [text for path in DOCUMENTS if f"<!-- {name} -->" in (text := path.read_text())]
    block = page.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    return rows(block)


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row below the first table's heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def errors(parent: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    """Yield every error class that has been imported."""
    for error in parent.__subclasses__():
        yield error
        yield from errors(error)
