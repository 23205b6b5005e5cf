"""Hostile names and values in queries are only data: they find the records that have them, or are refused."""

import json
import operator
import os
import random
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from datasets.schemas.declarations import parse_fields
from ingest.storing.drain import drain
from tests.conftest import Api
from tests.datasets.api.conftest import Management, alice, client, shop
from tests.datasets.queries.oracle.asking import ask
from tests.support.entries import table_of

__all__ = ["alice", "client", "shop"]  # fixtures

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
MUTATIONS = 150
SAMPLE = 30  # how many of the texts a run uses
TIME = "2026-06-10T10:58:00Z"
RANGE = {"from": "2026-06-10T00:00:00Z", "to": "2026-06-11T00:00:00Z"}
FIELDS = {
    "text": "string",
    "select": "string?",
    "number": "number",
    "big": "integer?",
    "exact": "decimal(38,10)?",
    "at": "timestamp?",
}
TEXTS = (
    *("", " ", "'", "''", '"', '""', "`", "\\", "\\'", "%", "_", "%%", "100%", "a_b", "\0", "a\0b", "\n", "\r\n", "\t"),
    *("' OR '1'='1", "'; DROP TABLE records; --", '" OR 1=1 --', "1) UNION SELECT 1 --", "/* */", "--", "#", ";", "$1"),
    *("{}", "[]", "null", "NULL", "NaN", "true", "__proto__", "constructor", "records", "position", "c0", "rowid", "*"),
    *("read_text('/etc/passwd')", "'||(SELECT 1)||'", "COPY records TO '/tmp/x'", "${x}", "{{x}}", "$(id)", "../../x"),
    *("é", "é", "ß", "SS", "İ", "ı", "Σ", "ς", "😀", "👨‍👩‍👧", "ﷺ", "\u202e", "\ufeff", "\u0000", "\uffff"),
    *("a" * 9000, "%" * 500, "'" * 500, "SELECT", "select", "FROM", "timestamp", "\U0010ffff"),
)  # fmt: skip
# JSON texts that are hardly ever a value of a query.
VALUES = (
    *("null", "true", "0", "-1", "1e400", "-0", "1" + "0" * 400, "9" * 5000, "0.1e-400", "1.5", "18446744073709551616"),
    *("[]", "{}", "[[]]", '{"$ne":1}', '{"__proto__":1}', "[" * 300 + "]" * 300, '{"a":' * 300 + "1" + "}" * 300),
    *('"\\ud800"', '"\\udc00\\ud800"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999Z"', '"2026-02-30"'),
    *('"2016-12-31T23:59:60Z"', '"0001-01-03T00:00:00Z"', '"9999-12-31T23:59:59-23:59"', '"1e5"', '"NaN"'),
    *('"minute"', '"Europe/Bucharest"', '"../../etc/passwd"', '"posixrules"', '"right/UTC"', '"+25:00"', '"count"'),
    *('["a","a"]', "[null]", "[1,2]", "[" + "1," * 2000 + "1]", '"' + "x" * 20000 + '"', "-9223372036854775809"),
    *(json.dumps(each) for each in TEXTS),
)  # fmt: skip
SEEDS: tuple[dict[str, Any], ...] = (
    {
        "range": RANGE,
        "select": [{"field": "text", "as": "a"}, {"field": "timestamp"}, {"field": "context"}],
        "where": [
            {"field": "text", "op": "contains", "value": "a"},
            {"field": "number", "op": "in", "value": [1, 2.5]},
            {"field": "select", "op": "is_null"},
        ],
        "orderBy": [{"field": "text", "direction": "desc"}],
        "limit": 5,
        "cursor": "abc",
    },
    {
        "range": RANGE,
        "select": [
            {"bucket": "day", "field": "timestamp", "as": "day", "timezone": "Europe/Bucharest"},
            {"field": "text"},
            {"aggregate": "sum", "field": "number", "as": "total"},
            {"aggregate": "count"},
        ],
        "where": [{"field": "exact", "op": ">", "value": "1.5"}, {"field": "timestamp", "op": "<=", "value": TIME}],
        "groupBy": ["day", "text"],
        "orderBy": [{"field": "total", "direction": "asc"}, {"field": "day"}],
        "limit": 1000,
    },
)


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "contains": operator.contains,
    "starts_with": str.startswith,
}
TIMES = (
    *("0001-01-01T00:00:00Z", "0001-01-03T00:00:00Z", "0001-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    *("9999-12-27T00:00:00Z", "1582-10-10T00:00:00Z", "1883-11-18T17:00:00Z", "2011-12-30T10:00:00Z", TIME),
)


@pytest.fixture
def texts(shop: Project) -> Dataset:
    """Return a dataset with a record for each of TEXTS, and for each of TIMES."""
    dataset = services.create_dataset(project=shop, name="Texts", fields=parse_fields({"fields": FIELDS}))
    key = services.create_key(project=shop, name="k")
    sender = Api(issue_token(key), dataset)
    base = {"timestamp": TIME, "context": {}}
    records = [{**base, "text": text, "number": number} for number, text in enumerate(TEXTS)]
    assert sender.batch(records).status_code == 202
    times = [{"timestamp": at, "context": {}, "text": "of a time", "number": -1, "at": at} for at in TIMES]
    assert sender.batch(times).status_code == 202
    drain(dataset.pk)
    return dataset


def post(client: Management, dataset: Dataset, body: Any) -> Any:
    """POST a query: text as it is, anything else as JSON."""
    return client.post(f"/api/datasets/shop/{dataset.pk}/query", body)


def test_a_hostile_text_finds_the_records_that_hold_it(texts: Dataset) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    for text in chance.sample(TEXTS, SAMPLE):
        op = chance.choice(list(COMPARISONS))
        where = [{"field": "text", "op": op, "value": text}]
        query = {"range": RANGE, "select": [{"field": "number"}], "where": where, "limit": 1000}
        found = {row["number"] for row in ask(texts, query)["rows"]} - {-1}
        assert found == {number for number, each in enumerate(TEXTS) if COMPARISONS[op](each, text)}, (op, text)


def test_a_hostile_name_is_refused_with_its_place(client: Management, texts: Dataset) -> None:
    """Only declared fields can be named, so no name reaches the engine."""
    print(f"seed {SEED}")
    for text in random.Random(SEED).sample(TEXTS, SAMPLE):
        if text in (*FIELDS, "timestamp"):
            continue
        select = [
            {"field": text},
            {"aggregate": "count", "field": text},
            {"aggregate": text, "field": "number"},
            {"bucket": text, "field": "timestamp"},
            {"bucket": "day", "field": "timestamp", "timezone": text},
        ]
        query = {
            "range": {"from": text},
            "where": [{"field": text, "op": "=", "value": 1}, {"field": "text", "op": text, "value": "a"}],
            "orderBy": [{"field": text}, {"field": "text", "direction": text}],
            "limit": text,
        }
        # If a part of a query is wrong, the answer leaves out errors of parts that refer to it.
        bodies = (query, {"select": select}, {"groupBy": [text]})
        answers = [post(client, texts, body) for body in bodies]
        assert [each.status_code for each in answers] == [400] * 3, text
        found = {each["at"] for answer in answers for each in answer.json()["errors"]}
        assert found >= {
            *("range.from", "select[0].field", "select[1].field", "select[2].aggregate", "select[3].bucket"),
            *("select[4].timezone", "where[0].field", "where[1].op", "groupBy[0]", "orderBy[0].field"),
            *("orderBy[1].direction", "limit"),
        }, text


def test_extreme_times_are_answered_or_refused(texts: Dataset) -> None:
    chance = random.Random(SEED)
    zones = sorted(zoneinfo.available_timezones())
    for first in TIMES:
        for bucket in chance.sample(("minute", "day", "week", "month"), 2):
            select = [
                {"bucket": bucket, "field": "at", "timezone": chance.choice(zones), "as": "start"},
                {"aggregate": "count"},
            ]
            limits = {name: chance.choice((first, chance.choice(TIMES))) for name in chance.sample(("from", "to"), 1)}
            where = [{"field": "at", "op": chance.choice((">=", "<=", "=")), "value": first}]
            query = {"range": limits, "select": select, "groupBy": ["start"], "where": where}
            answer = ask(texts, query)
            assert "rows" in answer or answer["failure"] == "invalid", (query, answer)


def test_a_random_change_of_a_query_is_answered_or_refused(client: Management, texts: Dataset) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    before = table_of(texts).to_pyarrow_table().num_rows
    seen = set()
    for _ in range(MUTATIONS):
        text = changed(chance)
        answer = post(client, texts, text)
        assert answer.status_code in (200, 400), (text[:1000], answer.text)
        assert answer.headers["Content-Type"] == "application/json"
        body = answer.json()
        seen.add(body.get("code", "ok"))
        assert "Traceback" not in answer.text
        assert "duckdb" not in answer.text.lower()
    assert {"ok", "invalid_query"} <= seen <= {"ok", "invalid_query", "invalid_json"}
    assert table_of(texts).to_pyarrow_table().num_rows == before


def changed(chance: random.Random) -> str:
    """Return a valid query as JSON in which one to three parts were replaced, doubled, renamed or removed."""
    query = json.loads(json.dumps(chance.choice(SEEDS)))
    query.pop("cursor", None) if chance.random() < 0.9 else None
    marks: dict[str, str] = {}
    for number in range(chance.randint(1, 3)):
        holder, name = chance.choice(list(places(query)))
        mark = f"~{number}~"
        what = chance.random()
        if what < 0.6:
            holder[name] = mark
            marks[mark] = chance.choice(VALUES)
        elif what < 0.75 and isinstance(holder, dict):
            holder[chance.choice(TEXTS)] = holder.pop(name)
        elif what < 0.9 and isinstance(holder, list):
            holder.append(holder[name])
        else:
            del holder[name]
    text = json.dumps(query)
    for mark, value in marks.items():
        text = text.replace(f'"{mark}"', value)
    return text.replace('"select"', '"select": 1, "select"') if chance.random() < 0.02 else text


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """For each part of a query, yield the object or array that contains it, and its name or index there."""
    for name in range(len(value)) if isinstance(value, list) else list(value):
        yield value, name
        if isinstance(value[name], dict | list):
            yield from places(value[name])
