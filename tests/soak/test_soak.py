"""The logic of the soak, and a soak of a few seconds. `make soak` runs for an hour."""

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.run import run
from tests.soak.samples import KINDS
from tests.soak.verdict import trends

MINUTES = 60
PER_MINUTE = 12


def is_flat(name: str, value: Callable[[float], float]) -> bool:
    """Return whether an hour of a series is flat. The series is a function of the minute."""
    samples = [{name: value(number / PER_MINUTE)} for number in range(MINUTES * PER_MINUTE)]
    (trend,) = trends(samples)
    return trend.is_flat


def saw(minute: float) -> float:
    """Return a saw-tooth that rises from 0 to 600 within five minutes."""
    return minute % 5 * 120


def test_constant_or_falling_series_is_flat() -> None:
    assert is_flat("memory/web 1", lambda _: 100)
    assert is_flat("memory/web 1", lambda minute: 200 - minute)


def test_series_that_grows_only_at_the_start_is_flat() -> None:
    assert is_flat("memory/web 1", lambda minute: 100 + 10 * min(minute, 15))


def test_series_that_always_grows_is_not_flat() -> None:
    assert not is_flat("memory/web 1", lambda minute: 100 + minute)
    assert not is_flat("files/web 1", lambda minute: 50 + minute // 3)
    assert not is_flat("threads/worker", lambda minute: 9 + 2 * minute)
    assert not is_flat("redis/used memory", lambda minute: 20 + minute)


def test_series_that_begins_to_grow_late_is_not_flat() -> None:
    assert not is_flat("log/files", lambda minute: 600 + max(0, minute - 40) * 60)


def test_one_outlier_among_the_teeth_does_not_count() -> None:
    assert is_flat("aof/size", lambda minute: 1000 if 50 <= minute < 55 else 100)
    assert not is_flat("aof/size", lambda minute: 1000 if minute >= 50 else 100)


def test_saw_tooth_is_flat_if_its_teeth_are_equal() -> None:
    assert is_flat("table/files", saw)
    assert not is_flat("table/files", lambda minute: saw(minute) * (1 + minute / 60))
    assert not is_flat("table/files", lambda minute: saw(minute) + 4 * minute)


def test_series_that_must_grow_is_not_judged() -> None:
    assert trends([{"records/acknowledged": number, "size/data": number} for number in range(12)]) == []


def test_too_few_samples_give_no_verdict() -> None:
    with pytest.raises(ValueError, match="11 samples are too few"):
        trends([{"memory/web 1": 1.0}] * 11)


@pytest.mark.long
def test_soak_of_a_few_seconds(tmp_path: Path) -> None:
    data, picture = tmp_path / "soak.csv", tmp_path / "soak.svg"
    report = run(minutes=0.12, rate=2000, batch=100, data=data, picture=picture)
    assert not report.wrong, report.text()
    assert report.records > 1000, report.text()
    with data.open() as file:
        samples = list(csv.DictReader(file))
    assert len(samples) >= 12
    names = set(samples[0]) - {"minutes"}
    assert {name.partition("/")[0] for name in names} == KINDS.keys()
    assert {f"memory/{name}" for name in ("redis", "web 1", "web 2", "worker", "upkeep", "beat")} <= names
    assert {trend.name for trend in report.trends} < names
    assert sum(float(sample["table/files"]) for sample in samples) > 0
    lines = ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}path")
    assert sum(1 for _ in lines) == len(names)
