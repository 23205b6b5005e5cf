"""Try it marks the place where the JSON of a body is invalid."""

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from datasets.models import Dataset
from ingest.admin import tryout
from ingest.admin.tryout import FORMS, InvalidPlace
from tests.conftest import record

TEXT = json.dumps(record())


def invalid_place(dataset: Dataset, body: str | bytes, form: str = "single") -> InvalidPlace | None:
    sent = body.encode() if isinstance(body, str) else body
    return tryout.invalid_place(sent, tryout.preview(dataset, sent, FORMS[form]))


@pytest.mark.parametrize(
    ("form", "body", "number", "marked"),
    [
        ("single", '{"a":NaN}', 1, ('{"a":', "N", "aN}")),
        ("single", '{\n "a": 1,\n "b": Infinity\n}', 3, (' "b": ', "I", "nfinity")),
        ("single", '{"é":"€😀", "b":True}', 1, ('{"é":"€😀", "b":', "T", "rue}")),
        ("single", '{"a":1', 1, ('{"a":1', "", "")),
        ("batch", f'[{TEXT},\n{{"a":1,}}]', 2, ('{"a":1,', "}", "]")),
        ("lines", f"{TEXT}\n\n{TEXT[:-1]}", 3, (TEXT[:-1], "", "")),
    ],
)
def test_place_is_marked(dataset: Dataset, form: str, body: str, number: int, marked: tuple[str, str, str]) -> None:
    found = invalid_place(dataset, body, form)
    assert found is not None
    left, here, right = marked
    expected = (number, left if len(left) <= 120 else "…" + left[-120:], here, right)
    assert (found.number, found.left, found.here, found.right) == expected
    units = body.encode("utf-16-le")
    assert units[found.at * 2 :].decode("utf-16-le").startswith(here + right)
    assert found.cause


def test_lines_around_a_mistake_are_shown_and_long_lines_are_cut(dataset: Dataset) -> None:
    body = "\n".join(["[", *[f"{number}," for number in range(10)], "x" * 500, *["8,"] * 10])
    found = invalid_place(dataset, body, "batch")
    assert found is not None
    assert found.before == ["7,", "8,", "9,"]
    assert (found.left, found.here, found.right) == ("", "x", "x" * 120 + "…")
    assert found.after == ["8,"] * 3


def test_nothing_is_marked_without_a_place(dataset: Dataset) -> None:
    for body in (TEXT, "", "[" * 5000, json.dumps(record(amount="Line 1, column 2 (byte 3): x"))):
        assert invalid_place(dataset, body) is None


def test_text_that_is_not_utf8_is_marked(dataset: Dataset) -> None:
    found = invalid_place(dataset, b'{"a":"\xff"}')
    assert found is not None
    assert (found.left, found.here) == ('{"a":"', "\ufffd")


def test_page_shows_the_mark(dataset: Dataset, owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    client = Client()
    client.force_login(owner)
    answer = reverse("admin:ingest_datasetrecords_answer", args=(dataset.pk,))
    body = '{"b": "<b>",\r\n "a": <script>}'
    text = client.post(answer, {"form": "single", "body": body}).content.decode()
    assert "<mark>&lt;</mark>script&gt;}" in text
    assert "{&quot;b&quot;: &quot;&lt;b&gt;&quot;," in text
    assert 'data-select="19"' in text
