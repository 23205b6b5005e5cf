"""The README's tables, held against the code."""

import re
from collections.abc import Iterator
from pathlib import Path

from django.core.management import get_commands

from config.common import errors as config_errors
from config.common.errors import ApiError
from datasets.contracts import catalog, keys
from ingest import errors as ingest_errors
from ingest.api.urls import urlpatterns
from ingest.errors import InvalidRecords
from ingest.validation.body import ENCODINGS, MEDIA_TYPES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def table(name: str) -> list[list[str]]:
    """The cells of a marked table's rows."""
    block = README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    rows = [line for line in block.strip().splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def errors(parent: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    for error in parent.__subclasses__():
        yield error
        yield from errors(error)


def test_every_error_of_the_code_is_in_the_table() -> None:
    assert {module.__name__ for module in (config_errors, catalog, keys, ingest_errors)}  # all are imported
    documented = {(int(status), text, code.strip("`")) for status, text, code in table("errors")}
    raised = {(error.status, error.error, error.code) for error in errors() if error is not InvalidRecords}
    raised.add((ApiError.status, ApiError.error, ApiError.code))
    record_codes = {"not_an_object", "invalid_timestamp", "invalid_context", "extra_field", "missing_field"}
    record_codes.add("invalid_field")
    assert raised == {row for row in documented if row[2] not in record_codes}
    source = (ROOT / "ingest" / "validation" / "problems.py").read_text()
    for _, text, code in (row for row in documented if row[2] in record_codes):
        assert code in source, code
        assert text.split(":")[0].split(" \\<")[0] in source, text


def test_every_setting_is_in_the_table() -> None:
    source = (ROOT / "config" / "settings.py").read_text() + (ROOT / "config" / "common" / "env.py").read_text()
    read = set(re.findall(r'env\.(?:text|integer|number|truth|texts)\(\s*"([A-Z_]+)"', source))
    assert read == {row[0].strip("`") for row in table("settings")}


def test_the_defaults_are_those_of_the_table() -> None:
    source = (ROOT / "config" / "settings.py").read_text()
    literals = dict(re.findall(r'env\.(?:integer|number|truth)\("([A-Z_]+)", default=([^,)]+)', source))
    for name, default, _ in table("settings"):
        literal = literals.get(name.strip("`"))
        if literal is not None:
            value = eval(literal, {})  # arithmetic of our own settings
            documented = default.strip("`")
            assert documented == (
                str(value).lower()
                if isinstance(value, bool)
                else f"{value:g}"
                if isinstance(value, float)
                else str(value)
            )


def test_every_spelling_is_in_the_table() -> None:
    documented = [(row[0].strip("`"), re.findall(r"`([^`]+)`", row[2])) for row in table("spellings")]
    for header, accepted in (("Content-Type", MEDIA_TYPES), ("Content-Encoding", ENCODINGS)):
        assert {each for name, spellings in documented if name == header for each in spellings} == set(accepted)


def test_every_command_is_in_the_table() -> None:
    ours = {name for name, app in get_commands().items() if app in ("config", "datasets", "ingest", "quotas")}
    assert ours == {row[0].strip("`") for row in table("commands")}


def test_every_address_is_in_the_table() -> None:
    documented = [row[0].strip("`").partition(" ")[2].lstrip("/") for row in table("endpoints")]
    samples = [path.replace("<dataset_id>", "13").replace("<receipt>", "r") for path in documented]
    for pattern in urlpatterns:
        assert any(pattern.resolve(sample) for sample in samples), pattern
    for sample in samples:
        assert any(pattern.resolve(sample) for pattern in urlpatterns), sample
