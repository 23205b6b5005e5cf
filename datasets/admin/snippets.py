"""Code snippets that send a record."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets.schemas.fields import Field
from datasets.schemas.samples import example_record

PLACEHOLDER = "YOUR_API_KEY"


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code in one language that sends a record."""

    language: str
    text: str


def snippets(
    base_url: str, dataset_id: int | str, fields: Sequence[Field], token: str = PLACEHOLDER, sample: str = ""
) -> list[Snippet]:
    """Return code that sends an example record, with the values of a sample if there is one."""
    record = example_record(fields, sample)
    url = f"{base_url}/datasets/{dataset_id}"
    shell = record.replace("'", "'\\''")
    return [
        Snippet(
            "curl",
            f"curl -X POST {url} \\\n  -H 'Authorization: Bearer {token}' \\\n"
            f"  -H 'Content-Type: application/json' \\\n  --data '{shell}'",
        ),
        Snippet("Python", _PYTHON.format(url=url, token=token, record=_python(json.loads(record)))),
        Snippet("JavaScript", _JAVASCRIPT.format(url=json.dumps(url), token=token, body=_javascript(record))),
    ]


# It needs only the standard library. It prints a refusal like any other answer.
_PYTHON = """import json, urllib.error, urllib.request

request = urllib.request.Request(
    {url!r},
    headers={{'Authorization': 'Bearer {token}', 'Content-Type': 'application/json'}},
    data=json.dumps({record}).encode(),
)
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as refusal:
    answer = refusal
print(answer.status, answer.read().decode())"""
# Without a top-level `await`, which works in modules only, not in scripts.
_JAVASCRIPT = """fetch({url}, {{
  method: 'POST',
  headers: {{ Authorization: 'Bearer {token}', 'Content-Type': 'application/json' }},
  body: {body},
}}).then(async (answer) => console.log(answer.status, await answer.text()));"""


# JavaScript has no more exact whole numbers beyond 2^53, which has 16 digits.
_may_be_rounded = re.compile(r"[0-9]{16}").search


def _javascript(record: str) -> str:
    """Return an expression for a body: of an object, or of a text if JavaScript could round a number in it."""
    if _may_be_rounded(record):
        return json.dumps(record, ensure_ascii=False)
    return "JSON.stringify({})".format(
        json.dumps(json.loads(record), indent=2, ensure_ascii=False).replace("\n", "\n  ")
    )


def _python(record: dict[str, Any]) -> str:
    rows = "".join(f"        {name!r}: {value!r},\n" for name, value in record.items())
    return f"{{\n{rows}    }}"
