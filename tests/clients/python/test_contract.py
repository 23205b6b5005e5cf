"""The client gives the answers of the cases in tests/contract. The service must give the same answers."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from dataset_ingest.schema.fields import read_fields
from dataset_ingest.schema.problems import MAX_PROBLEMS, Problem
from dataset_ingest.schema.records import Records, Refused
from msgspec import Raw

from tests.support.documents import ROOT

FILES = sorted((ROOT / "tests" / "contract").glob("*.json"))


def problems(records: Records, case: dict[str, Any]) -> list[Problem]:
    """Return the problems that the client finds in a JSON text, and in the Python values of this text."""
    if "record" in case:
        return _problems(records, case["record"])
    batch = json.loads(case["batch"])
    if not isinstance(batch, list) or not batch:
        return []
    texts = [json.dumps(each) for each in batch]
    return [replace(each, index=n) for n, text in enumerate(texts) for each in _problems(records, text)]


def _problems(records: Records, text: str) -> list[Problem]:
    try:
        records.encode(Raw(text.encode()))
    except Refused as refused:
        return list(refused.problems)
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_client_gives_the_answers_of_the_cases(path: Any) -> None:
    compared = 0
    for group in json.loads(path.read_text()):
        records = Records(read_fields(group["fields"]))
        for case in group["cases"]:
            expected = case.get("errors", [])
            if "python" not in case.get("clients", ["python"]) or (expected and expected[0]["code"] == "invalid_batch"):
                continue
            found = problems(records, case)
            told = [{name: value for name, value in asdict(each).items() if value is not None} for each in found]
            for each in (*told, *expected):
                if each["code"] == "invalid_json":
                    each.pop("detail", None)
            assert told[:MAX_PROBLEMS] == expected, (group["schema"], case["name"])
            assert (len(told) > MAX_PROBLEMS) == case.get("truncated", False), (group["schema"], case["name"])
            compared += 1
    assert compared > 5
