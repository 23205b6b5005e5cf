"""Code snippets that send a record, one for each kind of client."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets.models import Dataset
from datasets.schemas.fields import Field
from datasets.schemas.samples import example_record, without_example

PLACEHOLDER = "YOUR_API_KEY"


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code that sends a record. `name` is a part of the ID of its HTML element."""

    name: str
    label: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sending:
    """What a page needs to show how to send a record to a dataset."""

    dataset: Dataset
    snippets: Sequence[Snippet]
    without_example: Sequence[str]  # fields whose value in the example must be replaced


@dataclass(frozen=True, slots=True)
class _Target:
    """The example record, the dataset that it goes to, and the key's token."""

    base_url: str
    dataset_id: int | str
    fields: Sequence[Field]
    token: str
    record: str  # JSON on one line

    @property
    def url(self) -> str:
        return f"{self.base_url}/datasets/{self.dataset_id}"


def snippets(
    base_url: str,
    dataset_id: int | str,
    fields: Sequence[Field],
    token: str = PLACEHOLDER,
    sample: str = "",
    *,
    for_browsers: bool = False,
) -> list[Snippet]:
    """Return code that sends an example record. If `sample` is a record, the example has its values."""
    target = _Target(base_url, dataset_id, fields, token, example_record(fields, sample))
    return _of_browsers(target) if for_browsers else _of_servers(target)


def sending(base_url: str, dataset: Dataset, token: str, *, for_browsers: bool) -> Sending | None:
    """Return how to send the dataset's own example record, or None if it has no schema."""
    version = dataset.latest_version()
    if version is None:
        return None
    fields = version.field_list()
    code = snippets(base_url, dataset.pk, fields, token, dataset.example, for_browsers=for_browsers)
    return Sending(dataset, code, without_example(fields, dataset.example))


def _of_servers(target: _Target) -> list[Snippet]:
    shell = target.record.replace("'", "'\\''")
    fill = partial(str.format, url=json.dumps(target.url), base_url=json.dumps(target.base_url), token=target.token)
    python = {"record": _python(json.loads(target.record)), "dataset": target.dataset_id}
    return [
        Snippet(
            "curl",
            "curl",
            f"curl -X POST {target.url} \\\n  -H 'Authorization: Bearer {target.token}' \\\n"
            f"  -H 'Content-Type: application/json' \\\n  --data '{shell}'",
        ),
        Snippet("python", "Python: requests", fill(_PYTHON, **python), "pip install requests"),
        Snippet("node", "Node.js: fetch", fill(_NODE, body=_body(target.record)), "Needs no package."),
        Snippet(
            "python-client",
            "Python client",
            fill(_PYTHON_CLIENT, fields=_python(_declared(target), 8), **python),
            "pip install dataset-ingest-client. It checks records, sends batches, and repeats failed requests.",
        ),
        Snippet(
            "typescript-client",
            "TypeScript client",
            fill(
                _TYPESCRIPT_CLIENT,
                fields=_javascript(_declared(target), 2),
                record=_javascript_record(target.record),
                dataset=target.dataset_id,
            ),
            "npm install @dataset-ingest/client. It checks records, sends batches, and repeats failed requests.",
        ),
    ]


def _of_browsers(target: _Target) -> list[Snippet]:
    url, body = json.dumps(target.url), _body(target.record)
    beacon = json.dumps(f"{target.url}?key={target.token}")
    return [
        Snippet(
            "browser",
            "Web page: fetch",
            _BROWSER.format(url=url, token=target.token, body=body),
            "The page can read the answer. With keepalive, the browser sends the record even if the user leaves.",
        ),
        Snippet(
            "beacon",
            "Web page: a beacon when the user leaves the page",
            _BEACON.format(url=beacon, body=body),
            "A beacon has no headers, so the key is in the address. The page gets no answer.",
        ),
    ]


# The snippets print the answer, even if it is a refusal, except that the clients raise an exception for a refusal. A
# beacon gets no answer.
_PYTHON = """import requests

answer = requests.post(
    {url},
    headers={{'Authorization': 'Bearer {token}'}},
    json={record},
)
print(answer.status_code, answer.text)"""
# This code has no top-level `await`, because that works only in modules, not in scripts.
_NODE = """fetch({url}, {{
  method: 'POST',
  headers: {{ Authorization: 'Bearer {token}', 'Content-Type': 'application/json' }},
  body: {body},
}}).then(async (answer) => console.log(answer.status, await answer.text()));"""
_PYTHON_CLIENT = """from dataset_ingest import DatasetIngestClient

with DatasetIngestClient(
    base_url={base_url},
    api_key='{token}',
    dataset={{'id': {dataset}, 'fields': {fields}}},
) as client:
    print(client.send({record}))"""
_TYPESCRIPT_CLIENT = """import {{ DatasetIngestClient, defineDataset }} from '@dataset-ingest/client';

const dataset = defineDataset({{
  id: {dataset},
  fields: {fields},
}});
const client = new DatasetIngestClient({{
  baseUrl: {base_url},
  apiKey: '{token}',
  dataset,
}});
console.log(await client.send({record}));
await client.close();"""
_BROWSER = """fetch({url}, {{
  method: 'POST',
  headers: {{ Authorization: 'Bearer {token}', 'Content-Type': 'application/json' }},
  body: {body},
  keepalive: true,
}}).then(async (answer) => console.log(answer.status, await answer.text()));"""
_BEACON = """addEventListener('pagehide', () => {{
  navigator.sendBeacon(
    {url},
    {body},
  );
}});"""

# JavaScript may round whole numbers above 2^53, a number of 16 digits.
_may_be_rounded = re.compile(r"[0-9]{16}").search


def _body(record: str) -> str:
    """Return a JavaScript expression for a body. It is a string if JavaScript could round a number in the record."""
    if _may_be_rounded(record):
        return json.dumps(record, ensure_ascii=False)
    return f"JSON.stringify({_javascript(json.loads(record), 2)})"


def _javascript_record(record: str) -> str:
    """Return a JavaScript literal of a record. Numbers that JavaScript could round are of the type `bigint`."""
    text = _javascript(json.loads(record), 0)
    return re.sub(r"(: |^\s+)(-?[0-9]{16,})(,?)$", r"\1\2n\3", text, flags=re.MULTILINE)


def _javascript(value: Any, indent: int) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n" + " " * indent)


def _python(value: dict[str, Any], indent: int = 4) -> str:
    rows = "".join(f"{' ' * indent}    {name!r}: {item!r},\n" for name, item in value.items())
    return f"{{\n{rows}{' ' * indent}}}"


def _declared(target: _Target) -> dict[str, Any]:
    """Return the fields as a client declares them."""
    return {field.name: field.shortest() for field in target.fields}
