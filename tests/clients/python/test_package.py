"""The package as it is published."""

import ast
import zipfile
from email import message_from_string

from dataset_ingest.options import OptionArguments, Options

from tests.clients.python.artifact import PACKAGE, environment


def test_the_wheel_has_the_types_and_the_license() -> None:
    (wheel,) = environment().parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        (described,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = message_from_string(packed.read(described).decode())
    assert "dataset_ingest/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests") for name in names)
    assert (metadata["Name"], metadata["Requires-Python"]) == ("dataset-ingest-client", ">=3.10")
    assert metadata["Version"] in (PACKAGE / "CHANGELOG.md").read_text()


def test_options_and_keyword_arguments_are_the_same() -> None:
    assert set(OptionArguments.__annotations__) == set(Options.__dataclass_fields__)
    described = Options.__doc__ or ""
    assert [name for name in Options.__dataclass_fields__ if f"        {name}: " not in described] == []


def test_the_modules_parse_in_the_oldest_python() -> None:
    for path in (PACKAGE / "src").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 10))
