"""One soak: run a stack under a constant load for a long time, and take samples at regular intervals."""

import csv
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import psutil

from tests.benchmarks.payloads import FIELDS
from tests.soak import plot
from tests.soak.load import PREFIX, Load
from tests.soak.samples import WEB, Sample, Sampler
from tests.soak.verdict import TEETH, Trend, trends
from tests.support.processes.stack import Stack, running, wait_for

PROGRAMS = ("redis", "web", "worker", "upkeep", "beat")
# Periodic work runs three times in each quarter of a run, or less often in a short run. In an hour's run, this is every
# five minutes, like compaction by default. By default, the service keeps retries and merged files for a day, and the
# table's log for 15 minutes. In a run of an hour, their growth would end too late or not at all, so the run shortens
# these times.
_LEAST_TOOTH_SECONDS = 30
_SAMPLES = 720
_MAX_DISK_SHARE, _ROOM_TO_MERGE = 0.8, 1.2
_MAX_LOOKS = 5


class SoakFailed(Exception):
    """The soak could not be completed, so there is no verdict."""


@dataclass
class Report:
    """The result of a soak."""

    minutes: float
    batch: int
    sustained: float | None  # records/s, as measured at the start
    rate: float  # records/s
    records: int = 0
    wrong: list[str] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)

    @property
    def growing(self) -> list[Trend]:
        return [trend for trend in self.trends if not trend.is_flat]

    def text(self) -> str:
        """Return the report as text."""
        measured = "" if self.sustained is None else f", half of {self.sustained:,.0f}"
        verdict = f"{len(self.growing)} series grow" if self.growing else "everything is flat"
        return "\n".join(
            [
                f"{self.minutes:g} minutes at {self.rate:,.0f} records/s{measured}, {self.batch:,} a request",
                "second quarter -> last quarter",
                *map(str, self.trends),
                f"{self.records:,} records acknowledged, each to be in the table once",
                *(f"WRONG  {what}" for what in self.wrong),
                f"{verdict}; {f'{len(self.wrong)} things are wrong' if self.wrong else 'nothing is wrong'}",
            ]
        )


class Soak:
    """A stack with one dataset, a load, and the samples."""

    def __init__(self, stack: Stack, *, seconds: float, batch: int, aloud: bool) -> None:
        self.stack, self.seconds, self.aloud = stack, seconds, aloud
        fields = {each.name: each.type for each in FIELDS}
        self.project, self.dataset, token = stack.make_dataset("soak", fields)
        self.load = Load(stack.url, self.dataset, token, batch)
        self.samples: list[Sample] = []
        self.minutes: list[float] = []
        self.wrong: list[str] = []

    def say(self, line: str) -> None:
        if self.aloud:
            print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)

    def warm_up(self, rate: float | None) -> float:
        """Send for some seconds. Return the records/s from the first request until all records are stored.

        Without a rate, send at full rate. Begin after a first record is stored: until then, workers may be starting.
        """
        with self.load.sending(10):
            wait_for(lambda: self.load.records or self.load.errors, "an answer")
        self.stack.wait_for_rows(self.dataset, self.load.records)
        began, before = time.monotonic(), self.load.records
        with self.load.sending(rate and rate / self.load.batch):
            time.sleep(min(20, self.seconds / 6))
        if self.load.errors:
            raise SoakFailed(f"not everything was accepted: {self.load.errors[:3]}")
        self.stack.wait_for_rows(self.dataset, self.load.records)
        return (self.load.records - before) / (time.monotonic() - began)

    def shorten_the_log(self) -> None:
        """Let the table keep its log for the time of one tooth. Nothing else may write to the table meanwhile."""
        table = self.stack.table(self.project, self.dataset)
        kept = f"interval {_tooth(self.seconds)} seconds"
        table.alter.set_table_properties({"delta.logRetentionDuration": kept})

    def check_disk(self, rate: float) -> None:
        """Raise SoakFailed if the disk is too small for the records."""
        sizes = [file.stat().st_size for file in Path(self.stack.storage).rglob("*.parquet")]
        needed = sum(sizes) / self.load.records * rate * self.seconds * _ROOM_TO_MERGE
        free = shutil.disk_usage(self.stack.data_dir).free
        self.say(f"the table will take about {needed / 1e9:,.1f} GB of the disk, {free / 1e9:,.0f} GB are free")
        if needed > free * _MAX_DISK_SHARE:
            raise SoakFailed(f"the disk is too small: {needed / 1e9:,.0f} GB needed. Choose --rate or --minutes")

    def go_on(self, rate: float, data: Path) -> None:
        """Send `rate` records per second, and take samples."""
        sampler = Sampler(self.stack, self.project, self.dataset)
        pause = max(0.5, self.seconds / _SAMPLES)
        names = ["minutes", *self._look(sampler)]
        with data.open("w", newline="") as file, self.load.sending(rate / self.load.batch):
            rows = csv.DictWriter(file, names)
            rows.writeheader()
            began = due = time.monotonic()
            while due < began + self.seconds:
                due += pause
                time.sleep(max(0.0, due - time.monotonic()))
                minutes = (time.monotonic() - began) / 60
                try:
                    self.samples.append(self._look(sampler))
                except psutil.NoSuchProcess as ended:
                    self.wrong.append(f"a process has ended: {ended}")
                    return
                self.minutes.append(minutes)
                rows.writerow({"minutes": f"{minutes:.3f}", **self.samples[-1]})
                file.flush()
                if minutes // 1 > (minutes - pause / 60) // 1:
                    self._tell(minutes, self.samples[-1])
        self.wrong += [f"a process has ended: {name}" for name in sampler.ended()]

    def _look(self, sampler: Sampler) -> Sample:
        sample = sampler.sample()
        slowest, records = self.load.slowest_seconds(), self.load.records
        return {**sample, "answers/slowest": slowest, "records/acknowledged": records / 1e6}

    def _tell(self, minutes: float, sample: Sample) -> None:
        memory = sum(size for name, size in sample.items() if name.startswith("memory/"))
        self.say(
            f"{minutes:3.0f} min: {self.load.records:,} records, {len(self.load.errors)} errors; "
            f"memory {memory:,.0f} MB, Redis {sample['redis/used memory']:,.0f} MB, AOF {sample['aof/size']:,.0f} MB, "
            f"{sample['queue/records']:,.0f} wait; table {sample['size/data']:,.0f} MB, "
            f"{sample['table/files']:.0f} small files, {sample['log/files']:.0f} of its log"
        )

    def settle(self) -> None:
        """Wait until all records are stored, and count them. Look for errors in the logs."""
        records = self.load.records
        self.wrong += self.load.errors
        try:
            self.stack.wait_until_drained(self.dataset, records)
        except AssertionError as failure:
            self.wrong.append(f"the ledger: {failure}")
        by_request = 'SELECT "__traceId" AS request, count(*) AS size FROM records GROUP BY 1'
        found = self._ask(
            f"""SELECT count(*), sum(size)::BIGINT, min(size), max(size), count(*) FILTER (request NOT LIKE '{PREFIX}%')
            FROM ({by_request})"""
        )
        expected = (self.load.acknowledged, records, self.load.batch, self.load.batch, 0)
        if found != [expected]:
            self.wrong.append(f"requests, rows, least and most of a request, strangers: {found}, not {expected}")
        for name in PROGRAMS:
            lines = [line for line in self.stack.log(name).splitlines() if " ERROR " in line or "Traceback" in line]
            self.wrong += [f"{name} has logged: {line[:300]}" for line in lines[:3]]

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Query the table. Try again if a file was merged meanwhile: this run deletes replaced files immediately."""
        for _ in range(_MAX_LOOKS - 1):
            try:
                return self.stack.query(self.project, self.dataset, sql)
            except duckdb.InvalidInputException as failure:
                self.say(f"the table is looked at again: {str(failure)[-200:]}")
        return self.stack.query(self.project, self.dataset, sql)


def run(*, minutes: float, rate: float | None, batch: int, data: Path, picture: Path, aloud: bool = False) -> Report:
    """Run a soak. Without a rate, use half of the sustained rate. Raises SoakFailed."""
    seconds = minutes * 60
    with _home() as home, running(home, "--no-demo", "--web", str(WEB), environment=_environment(seconds)) as stack:
        soak = Soak(stack, seconds=seconds, batch=batch, aloud=aloud)
        sustained = soak.warm_up(rate)
        soak.say(f"{sustained:,.0f} records/s stored, from the first request until the last can be read")
        soak.shorten_the_log()
        report = Report(minutes, batch, None if rate else sustained, rate or sustained / 2)
        soak.check_disk(report.rate)
        soak.go_on(report.rate, data)
        soak.say("the load is over; waiting until everything is stored")
        soak.settle()
        if soak.wrong:
            shutil.copytree(stack.data_dir / "logs", data.with_suffix(".logs"), dirs_exist_ok=True)
    report.records, report.wrong = soak.load.records, soak.wrong
    if len(soak.samples) >= TEETH:
        report.trends = trends(soak.samples)
        plot.write(picture, soak.samples, soak.minutes)
    else:
        report.wrong.append(f"{len(soak.samples)} samples are too few to judge")
    return report


def _tooth(seconds: float) -> int:
    quarter = seconds / 4
    return max(1, round(quarter / max(1, min(TEETH // 4, quarter // _LEAST_TOOTH_SECONDS))))


def _environment(seconds: float) -> dict[str, str]:
    tooth = str(_tooth(seconds))
    return {"COMPACT_SECONDS": tooth, "IDEMPOTENCY_TTL_SECONDS": tooth, "VACUUM_RETENTION_HOURS": "0"}


@contextmanager
def _home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        yield home / "data"
    finally:
        shutil.rmtree(home, ignore_errors=True)
