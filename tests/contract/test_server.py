"""The service gives the answers of the cases. Our clients are checked against the same files."""

import json
from pathlib import Path
from typing import Any

import pytest

from datasets import services
from datasets.models import Project
from datasets.schemas.declarations import parse_fields
from tests.conftest import Api

FILES = sorted(Path(__file__).parent.glob("*.json"))
# `errors` has these members of a problem, in this order.
MEMBERS = ("index", "error", "code", "field", "expected", "received", "detail")


def answer(api: Api, case: dict[str, Any]) -> tuple[bool, list[dict[str, Any]], bool]:
    """Return whether the service accepts the case, the problems, and whether there are more of them."""
    response = api.one(case["record"]) if "record" in case else api.batch(case["batch"])
    said = response.json()
    if response.status_code == 202:
        return True, [], False
    assert response.status_code == 400
    problems = said.get("errors") or [said]
    found = [{member: each[member] for member in MEMBERS if member in each} for each in problems]
    return False, found, said.get("truncated", False)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_service_gives_the_answers_of_the_cases(api: Api, project: Project, path: Path) -> None:
    count = 0
    for number, group in enumerate(json.loads(path.read_text())):
        fields = parse_fields({"fields": group["fields"]})
        api.dataset = services.create_dataset(project=project, name=f"Schema {number}", fields=fields)
        for case in group["cases"]:
            expected = case.get("errors", [])
            given = answer(api, case)
            assert given == (not expected, expected, case.get("truncated", False)), (group["schema"], case["name"])
            count += 1
    assert count > 5


def test_every_type_has_cases() -> None:
    declared = [group["fields"] for path in FILES for group in json.loads(path.read_text())]
    names = {each if isinstance(each, str) else each["type"] for fields in declared for each in fields.values()}
    documented = (Path(__file__).parents[2] / "docs" / "schemas.md").read_text()
    types = documented.partition("<!-- types -->\n")[2].partition("<!-- /types -->")[0].splitlines()[2:]
    expected = {row.split("`")[1] for row in types}
    assert len(expected) == 14
    assert {"decimal(p,s)" if name.startswith("decimal") else name for name in names} >= expected


def test_names_are_unique_and_languages_known() -> None:
    for path in FILES:
        for group in json.loads(path.read_text()):
            names = [case["name"] for case in group["cases"]]
            assert len(set(names)) == len(names), path.name
            assert all(set(case.get("clients", [])) <= {"python", "typescript"} for case in group["cases"])
