"""The README and the other documents, compared with the code."""

import re
from pathlib import Path

import msgspec
import pytest
from django.core.management import get_commands

from config.common import errors as config_errors
from config.common.errors import ApiError
from config.environment import Environment
from datasets.api import errors as api_errors
from datasets.api.queries import errors as query_errors
from datasets.contracts import contract, keys
from datasets.management.commands import create_demo
from datasets.schemas.constraints import CONSTRAINTS
from datasets.schemas.field_types import FIELD_TYPES
from datasets.schemas.schema import CompiledSchema
from ingest import errors as ingest_errors
from ingest.api.urls import urlpatterns
from ingest.errors import InvalidRecords
from ingest.validation.body import ENCODINGS, MEDIA_TYPES
from ingest.validation.payloads import validate_one
from tests.support.documents import DOCUMENTS, README, ROOT, errors, rows, table

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
OURS = ("config", "datasets", "ingest", "quotas")
EXTERNAL = ("http://", "https://")
# English that must be read twice: CONTRIBUTING.md says what to write instead.
UNCLEAR = re.compile(
    r"\b(?:whoever|nobody|whom|so long|so many|for ever|at once)\b|(?:^|[.:;|-] )(?:Who|Of|Those) ", re.MULTILINE
)

SOURCES = sorted(path for app in OURS for suffix in ("py", "lua", "html") for path in (ROOT / app).rglob(f"*.{suffix}"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> set[str]:
    return {name for name, app in get_commands().items() if app in OURS}


# -- tables against the code --------------------------------------------------------------------------


def test_every_error_of_the_code_is_in_the_table() -> None:
    assert {
        module.__name__ for module in (config_errors, contract, keys, api_errors, query_errors, ingest_errors)
    }  # all are imported
    both = table("errors") + table("management-errors")
    documented = {(int(status), text, code.strip("`")) for status, text, code, _ in both}
    raised = {(error.status, error.error, error.code) for error in errors() if error is not InvalidRecords}
    raised.add((ApiError.status, ApiError.error, ApiError.code))
    record_codes = {"not_an_object", "invalid_timestamp", "invalid_context", "extra_field", "missing_field"}
    record_codes.add("invalid_field")
    assert raised == {row for row in documented if row[2] not in record_codes}
    source = (ROOT / "ingest" / "validation" / "record_errors.py").read_text()
    for _, text, code in (row for row in documented if row[2] in record_codes):
        assert code in source, code
        assert text.split(":")[0].split(" \\<")[0] in source, text


def test_every_field_type_is_in_the_table_with_its_column() -> None:
    documented = {name.strip("`"): column.strip("`") for name, _, column in table("types")}
    columns = {name: str(each.arrow()).replace("item: ", "") for name, each in FIELD_TYPES.items() if each.decodes_to}
    columns |= {"enum": "string", "decimal(p,s)": "decimal128(p, s)"}
    assert documented == columns


def test_every_constraint_is_in_the_table() -> None:
    assert [row[0].strip("`") for row in table("constraints")] == list(CONSTRAINTS)


def test_every_setting_is_in_the_table() -> None:
    assert set(Environment.__struct_fields__) == {row[0].strip("`") for row in table("settings")}


def test_the_defaults_are_those_of_the_table() -> None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(Environment)}
    for name, documented, _ in table("settings"):
        default = defaults[name.strip("`")]
        if isinstance(default, int | float):
            written = str(default).lower() if isinstance(default, bool | int) else f"{default:g}"
            assert documented == f"`{written}`", name


def test_every_spelling_is_in_the_table() -> None:
    documented = [(row[0].strip("`"), re.findall(r"`([^`]+)`", row[2])) for row in table("spellings")]
    for header, accepted in (("Content-Type", MEDIA_TYPES), ("Content-Encoding", ENCODINGS)):
        assert {each for name, spellings in documented if name == header for each in spellings} == set(accepted)


def test_every_command_is_in_the_table() -> None:
    assert commands() == {row[0].strip("`") for row in table("commands")}


def test_every_address_is_in_the_table() -> None:
    documented = [row[0].strip("`").partition(" ")[2].lstrip("/") for row in table("endpoints")]
    samples = [path.replace("<dataset_id>", "13").replace("<receipt>", "r") for path in documented]
    for pattern in urlpatterns:
        assert any(pattern.resolve(sample) for sample in samples), pattern
    for sample in samples:
        assert any(pattern.resolve(sample) for pattern in urlpatterns), sample


def test_the_example_is_a_record_of_the_demo() -> None:
    (record,) = re.findall(r"-d '(\{.*?\})'", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    schema = CompiledSchema(1, create_demo.FIELDS)
    assert validate_one(schema, record.encode()).count == 1


# -- what the texts name ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(EXTERNAL):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_file_that_is_named_exists(path: Path) -> None:
    for named in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", path.read_text()):
        if named.partition("/")[0] in (*OURS, "tests", "docs") or path.parent.name == "tests":
            assert (ROOT / named).exists() or (path.parent / named).exists(), named


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_command_that_is_named_exists(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets
    known = commands() | {"migrate", "createsuperuser", "check"}  # Django's
    assert set(re.findall(r"(?:`|^|&& )(?:\.venv/bin/python )?manage(?:\.py)? (\w+)", text, re.MULTILINE)) <= known


def test_the_map_of_the_tests_has_every_folder() -> None:
    folders = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/*.py")}
    mapped = set(re.findall(r"`(\w+)[/`]", (ROOT / "tests" / "README.md").read_text()))
    assert folders <= mapped


def test_every_page_is_reached_from_the_readme() -> None:
    reached, new = set(), {README}
    while new:
        path = new.pop()
        reached.add(path)
        links = re.findall(r"\]\(([^)#\s]+\.md)[^)]*\)", path.read_text())
        linked = {(path.parent / link).resolve() for link in links if not link.startswith(EXTERNAL)}
        new |= linked - reached
    assert reached == set(DOCUMENTS)


# -- their form ---------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert 600 <= len(README.read_text().split()) <= 900


@pytest.mark.parametrize("path", DECISIONS, ids=name_of)
def test_a_decision_has_its_four_parts_on_half_a_page(path: Path) -> None:
    text = path.read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Rejected alternatives", "Consequences"]
    assert re.search(rf"^# {path.name[:4]}: ", text)
    assert len(text.split()) <= 400


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != "CONTRIBUTING.md"], ids=name_of)
def test_a_document_is_in_clear_english(path: Path) -> None:
    assert not UNCLEAR.findall(path.read_text())


def test_the_product_is_in_clear_english() -> None:
    assert len(SOURCES) > 150
    unclear = {name_of(path): UNCLEAR.findall(path.read_text()) for path in SOURCES}
    assert {name: found for name, found in unclear.items() if found} == {}


def test_every_term_of_the_glossary_is_used() -> None:
    glossary = ROOT / "docs" / "glossary.md"
    texts = " ".join(path.read_text() for path in [*SOURCES, *DOCUMENTS] if path != glossary).lower()
    terms = [row[0].strip("*").lower() for row in rows(glossary.read_text())]
    assert len(terms) == len(set(terms)) > 20
    for term in terms:
        assert re.search(rf"\b{re.escape(term)}(s|es)?\b", texts), term
