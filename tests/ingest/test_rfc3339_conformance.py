"""RFC 3339's `date-time` as tables: what is one, with the moment it names, and what is none."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from datasets import services
from datasets.models import Dataset, Project
from datasets.schema import Field
from tests.conftest import Api, stored
from tests.ingest import oracle
from tests.ingest.hostile import PADDING

# As it stands in JSON -> the moment in UTC.
MUST_ACCEPT = {
    "2026-06-10T10:58:00Z": "2026-06-10T10:58:00",
    "2026-06-10t10:58:00Z": "2026-06-10T10:58:00",
    "2026-06-10T10:58:00z": "2026-06-10T10:58:00",
    "2026-06-10t10:58:00z": "2026-06-10T10:58:00",
    "1985-04-12T23:20:50.52Z": "1985-04-12T23:20:50.520000",  # the RFC's own examples, 5.8
    "1996-12-19T16:39:57-08:00": "1996-12-20T00:39:57",
    "1937-01-01T12:00:27.87+00:20": "1937-01-01T11:40:27.870000",
    "2026-06-10T10:58:00+00:00": "2026-06-10T10:58:00",
    "2026-06-10T10:58:00-00:00": "2026-06-10T10:58:00",  # "the offset is not known": UTC all the same
    "2026-06-10T10:58:00+05:30": "2026-06-10T05:28:00",
    "2026-06-10T10:58:00-09:30": "2026-06-10T20:28:00",
    "2026-06-10T10:58:00+14:00": "2026-06-09T20:58:00",
    "2026-06-10T10:58:00+23:59": "2026-06-09T10:59:00",
    "2026-06-10T10:58:00-23:59": "2026-06-11T10:57:00",
    "2026-01-01T00:00:00+00:01": "2025-12-31T23:59:00",
    "2025-12-31T23:59:59-00:01": "2026-01-01T00:00:59",
    "2026-06-10T00:00:00Z": "2026-06-10T00:00:00",
    "2026-06-10T23:59:59Z": "2026-06-10T23:59:59",
    "2026-06-10T10:58:00.0Z": "2026-06-10T10:58:00",
    "2026-06-10T10:58:00.5Z": "2026-06-10T10:58:00.500000",
    "2026-06-10T10:58:00.123Z": "2026-06-10T10:58:00.123000",
    "2026-06-10T10:58:00.123456Z": "2026-06-10T10:58:00.123456",
    "2026-06-10T10:58:00.000001Z": "2026-06-10T10:58:00.000001",
    "2026-06-10T10:58:00.1234564Z": "2026-06-10T10:58:00.123456",  # the seventh digit is rounded
    "2026-06-10T10:58:00.1234565Z": "2026-06-10T10:58:00.123457",
    "2026-06-10T10:58:00.123456499999Z": "2026-06-10T10:58:00.123456",
    "2026-06-10T10:58:00.123456789Z": "2026-06-10T10:58:00.123457",
    "2026-06-10T10:58:59.9999999Z": "2026-06-10T10:59:00",
    "2025-12-31T23:59:59.9999995Z": "2026-01-01T00:00:00",
    "2026-06-10T10:58:00.00000000000000000000000000000001Z": "2026-06-10T10:58:00",
    "2026-06-10T10:58:00.1234567+01:00": "2026-06-10T09:58:00.123457",
    "2024-02-29T12:00:00Z": "2024-02-29T12:00:00",
    "2000-02-29T12:00:00Z": "2000-02-29T12:00:00",
    "0004-02-29T12:00:00Z": "0004-02-29T12:00:00",
    "2026-01-31T00:00:00Z": "2026-01-31T00:00:00",
    "2026-04-30T00:00:00Z": "2026-04-30T00:00:00",
    "2026-12-31T00:00:00Z": "2026-12-31T00:00:00",
    "0001-01-01T00:00:00Z": "0001-01-01T00:00:00",
    "0099-03-01T00:00:00Z": "0099-03-01T00:00:00",
    "1582-10-10T00:00:00Z": "1582-10-10T00:00:00",  # the Gregorian calendar, before there was one
    "1900-01-01T00:00:00Z": "1900-01-01T00:00:00",
    "1969-12-31T23:59:59.999999Z": "1969-12-31T23:59:59.999999",
    "1970-01-01T00:00:00Z": "1970-01-01T00:00:00",
    "2038-01-19T03:14:08Z": "2038-01-19T03:14:08",
    "2262-04-11T23:47:16.854776Z": "2262-04-11T23:47:16.854776",  # beyond 64 bits of nanoseconds
    "9999-12-31T23:59:59.999999Z": "9999-12-31T23:59:59.999999",
    r"2026-06-10T10:58:00\u002B02:00": "2026-06-10T08:58:00",  # escapes of JSON are not of RFC 3339
    r"2026\u002d06\u002d10T10\u003a58:00Z": "2026-06-10T10:58:00",
    r"\u0032026-06-10\u005410:58:00\u005a": "2026-06-10T10:58:00",
}

MUST_REJECT = [
    "", " ", "now", "null", "0", "1781089080", "1781089080.5",
    # parts
    "2026-06-10", "10:58:00Z", "2026-06-10T", "2026-06T10:58:00Z", "2026T10:58:00Z", "T10:58:00Z", "2026-06-10T10Z",
    "2026-06-10T10:58Z", "2026-06-10T10:58:00", "2026-06-10T10:58:00.5", "2026-06-10T10:58:00.Z", "2026-06-10T10:58:Z",
    # ISO 8601, which is more than RFC 3339
    "20260610T105800Z", "2026-W24-3T10:58:00Z", "2026-161T10:58:00Z", "2026-06-10T105800Z", "20260610T10:58:00Z",
    "+002026-06-10T10:58:00Z", "-0001-06-10T10:58:00Z", "2026-06-10T24:00:00Z", "2026-06-10T10:58:00,5Z",
    "2026-06-10T10.5Z", "P1D", "2026-06-10T10:58:00Z/P1D", "--06-10T10:58:00Z",
    # separators
    "2026-06-10 10:58:00Z", "2026-06-10_10:58:00Z", "2026-06-1010:58:00Z", "2026-06-10TT10:58:00Z",
    "2026/06/10T10:58:00Z", "2026-06-10T10-58-00Z", "2026-06-10T10:58:00:00Z", "2026.06.10T10:58:00Z",
    r"2026-06-10\u002010:58:00Z", r"2026-06-10\t10:58:00Z", "2026-06-10\N{CYRILLIC CAPITAL LETTER TE}10:58:00Z",
    "2026\N{NON-BREAKING HYPHEN}06-10T10:58:00Z", "2026-06-10T10\N{RATIO}58:00Z",
    # digits
    "26-06-10T10:58:00Z", "02026-06-10T10:58:00Z", "10000-01-01T00:00:00Z", "2026-6-10T10:58:00Z",
    "2026-06-1T10:58:00Z", "2026-006-10T10:58:00Z", "2026-06-10T1:58:00Z", "2026-06-10T10:8:00Z",
    "2026-06-10T10:58:0Z", "2026-06-10T10:58:000Z", "٢٠٢٦-06-10T10:58:00Z", "２０２６-06-10T10:58:00Z",
    "2026-06-10T10:58:00.١Z", "20e6-06-10T10:58:00Z", "+026-06-10T10:58:00Z", "2026-+6-10T10:58:00Z",
    "2026- 6-10T10:58:00Z", "2026-06-10T10:58:00.-5Z", "2026-06-10T10:58:00.5e3Z", "2026-06-10T10:58:00.5.5Z",
    # values
    "0000-01-01T00:00:00Z", "2026-00-10T10:58:00Z", "2026-13-10T10:58:00Z", "2026-06-00T10:58:00Z",
    "2026-06-31T10:58:00Z", "2026-01-32T10:58:00Z", "2026-02-29T10:58:00Z", "2024-02-30T10:58:00Z",
    "1900-02-29T10:58:00Z", "2100-02-29T10:58:00Z", "2026-06-10T25:00:00Z", "2026-06-10T10:60:00Z",
    "2026-06-10T10:58:60Z", "2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z", "2026-06-10T10:58:61Z",
    "2026-06-10T10:58:99Z", "9999-12-31T23:59:59.9999999Z",
    # offsets
    "2026-06-10T10:58:00+02", "2026-06-10T10:58:00+0200", "2026-06-10T10:58:00-0000", "2026-06-10T10:58:00+2:00",
    "2026-06-10T10:58:00+02:0", "2026-06-10T10:58:00+02:", "2026-06-10T10:58:00+", "2026-06-10T10:58:00+24:00",
    "2026-06-10T10:58:00-24:00", "2026-06-10T10:58:00+02:60", "2026-06-10T10:58:00+99:99",
    "2026-06-10T10:58:00+02:00:00", "2026-06-10T10:58:00+02:00Z", "2026-06-10T10:58:00Z+02:00",
    "2026-06-10T10:58:00ZZ", "2026-06-10T10:58:00 Z", "2026-06-10T10:58:00 +02:00", "2026-06-10T10:58:00UTC",
    "2026-06-10T10:58:00 UTC", "2026-06-10T10:58:00GMT", "2026-06-10T10:58:00CET", "2026-06-10T10:58:00±02:00",
    "2026-06-10T10:58:00\N{MINUS SIGN}02:00", "2026-06-10T10:58:00+02:00[Europe/Bucharest]",
    "2026-06-10T10:58:00[UTC]", "2026-06-10T10:58:00J", r"2026-06-10T10:58:00\u002b0200",
    # around it
    " 2026-06-10T10:58:00Z", "2026-06-10T10:58:00Z ", r"2026-06-10T10:58:00Z\n", r"\u00002026-06-10T10:58:00Z",
    r"2026-06-10T10:58:00Z\u0000", r"\"2026-06-10T10:58:00Z\"", "\ufeff2026-06-10T10:58:00Z",
    "2026-06-10T10:58:00Zx", "x2026-06-10T10:58:00Z", "2026-06-10T10:58:00Z2026-06-10T10:58:00Z",
    # other conventions
    "Wed, 10 Jun 2026 10:58:00 GMT", "Wed Jun 10 10:58:00 2026", "06/10/2026 10:58:00", "10.06.2026 10:58",
    "2026-06-10T10:58:00 AM", "2026-06-10T10:58:00Z AD", "@1781089080",
]  # fmt: skip


@pytest.fixture
def timed(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="Timed", fields=[Field("at", "timestamp")])


def body(text: str, *, field: str) -> str:
    members = {
        "timestamp": '"2026-06-10T10:58:00Z"',
        "context": "{}",
        "at": '"2026-06-10T10:58:00Z"',
        field: f'"{text}"',
    }
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"


@pytest.mark.parametrize("padding", ["", PADDING], ids=["small", "large"])
@pytest.mark.parametrize("field", ["timestamp", "at"])
def test_every_date_time_is_taken_for_the_moment_it_names(api: Api, timed: Dataset, field: str, padding: str) -> None:
    """Large bodies are looked through in another way."""
    api.dataset = timed
    for text in MUST_ACCEPT:
        response = api.one(padding + body(text, field=field))
        assert response.status_code == 202, (text, response.text)
    rows = stored(timed)
    moments = [datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in MUST_ACCEPT.values()]
    assert [row[field] for row in rows] == moments


@pytest.mark.parametrize("padding", ["", PADDING], ids=["small", "large"])
def test_nothing_else_is_a_date_time(api: Api, timed: Dataset, padding: str) -> None:
    api.dataset = timed
    for text in MUST_REJECT:
        answer = api.one(padding + body(text, field="at")).json()
        assert (answer.get("error"), answer.get("received")) == ("Invalid timestamp field: at", "string"), text
        answer = api.one(padding + body(text, field="timestamp")).json()
        assert (answer.get("error"), answer.get("field")) == ("Invalid or missing timestamp", "timestamp"), text


def test_the_oracle_reads_the_tables_as_they_stand() -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for text, moment in MUST_ACCEPT.items():
        since = datetime.fromisoformat(moment).replace(tzinfo=UTC) - epoch
        assert oracle.microseconds(json.loads(f'"{text}"')) == since // timedelta(microseconds=1), text
    for text in MUST_REJECT:
        assert oracle.microseconds(json.loads(f'"{text}"')) is None, text
