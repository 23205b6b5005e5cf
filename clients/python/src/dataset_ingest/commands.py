"""The functions that the subcommands of `dataset-ingest` run."""

from __future__ import annotations

import csv
import difflib
import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx

from dataset_ingest.importing.progress import Progress
from dataset_ingest.importing.rows import Columns, Stopped
from dataset_ingest.importing.run import Import, Place, View
from dataset_ingest.options import address_of, authorization_of
from dataset_ingest.queries.builder import Query
from dataset_ingest.queries.client import DatasetQueryClient

_SOME_REFUSED = _DIFFERS = 3
_EVER = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
_MAX_ROWS = 1000


# -- import ---------------------------------------------------------------------------------------------


class _Shown(View):
    """Shows an import on standard error: one line that changes on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = 0.0
        self._reason = ""

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def waiting(self, reason: str) -> None:
        if reason != self._reason:
            self.note(f"Waiting: {reason}" if reason else "Continuing.")
            self._reason = reason

    def sending(self, fraction: float, progress: Progress) -> None:
        pause = 0.2 if self._is_terminal else 10.0
        if time.monotonic() - self._shown_at < pause:
            return
        self._shown_at = time.monotonic()
        text = f"{fraction:4.0%}: {progress.accepted:,} accepted, {progress.refused:,} refused"
        print(text, end="\r" if self._is_terminal else "\n", file=sys.stderr, flush=True)


def run_import(options: Namespace) -> int:
    """Import a file."""
    file = options.file
    place = Place(
        file,
        options.progress or file.with_name(f"{file.name}.import-{options.dataset}"),
        options.refused or file.with_name(f"{file.name}.refused.ndjson"),
    )
    key = _given(options.key, "an API key: --key, or DATASET_INGEST_KEY")
    headers = {"Authorization": authorization_of(key)}
    with httpx.Client(base_url=address_of(options.url), headers=headers, timeout=30.0) as http:
        done = Import(http, options.dataset, place, _columns(options), _Shown()).run(uncertain=options.uncertain)
    print(f"Dataset {options.dataset} has accepted {done.accepted:,} of {done.accepted + done.refused:,} rows.")
    if done.refused:
        print(f"{done.refused:,} rows were refused: see {place.refused}.", file=sys.stderr)
        return _SOME_REFUSED
    return 0


def _columns(options: Namespace) -> Columns:
    """Return how columns become fields. Raises Stopped."""
    pairs = [each.rpartition("=") for each in options.map]
    wrong = [said for said, (column, _, field) in zip(options.map, pairs, strict=True) if not (column and field)]
    if wrong:
        raise Stopped(f"--map {wrong[0]}: write --map COLUMN=FIELD.")
    if options.timestamp_field:
        pairs.append((options.timestamp_field, "=", "timestamp"))
    delimiter = options.delimiter.replace("\\t", "\t")
    if len(delimiter) != 1:
        raise Stopped("--delimiter must be one character, for example ';'.")
    return Columns({column: field for column, _, field in pairs}, tuple(sorted(options.drop)), delimiter)


def _given(value: str | None, what: str) -> str:
    if not value:
        raise Stopped(f"The command needs {what}.")
    return value


# -- reading --------------------------------------------------------------------------------------------


def _client(options: Namespace) -> DatasetQueryClient:
    return DatasetQueryClient(
        base_url=options.url,
        token=_given(options.token, "a personal access token: --token, or DATASET_INGEST_TOKEN"),
        project=_given(options.project, "the slug of a project: --project, or DATASET_INGEST_PROJECT"),
    )


def run_query(options: Namespace) -> int:
    """Print the rows of a query."""
    text = options.query
    if text.startswith("@"):
        with open(text[1:], encoding="utf-8") as file:
            text = file.read()
    with _client(options) as client:
        result = client.query(options.dataset, json.loads(text))
    names = [column["name"] for column in result.columns]
    _print(names, result.rows, options.format)
    if result.truncated:
        print("There are more rows: raise the limit of the query.", file=sys.stderr)
    return 0


def _print(names: Sequence[str], rows: Sequence[Mapping[str, Any]], form: str) -> None:
    if form == "ndjson":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    cells = [["" if row.get(name) is None else _text(row[name]) for name in names] for row in rows]
    if form == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *cells])
        return
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for line in [names, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def run_tail(options: Namespace) -> int:
    """Print new records as NDJSON."""
    deadline = None if options.seconds is None else time.monotonic() + options.seconds
    since = _moment(options.since) if options.since else datetime.now(timezone.utc)
    seen: dict[str, datetime] = {}
    with _client(options) as client:
        schema = client.schema(options.dataset)
        names = ["id", "ingested_at", "timestamp", "context", *(schema or {}).get("fields", {})]
        newest = client.from_(options.dataset).select(*names).range(*_EVER).order_by("ingested_at").limit(_MAX_ROWS)
        while True:
            for row in _rows_of_all_pages(newest.where("ingested_at", ">=", since)):
                moment = _moment(row["ingested_at"])
                if row["id"] not in seen:
                    print(json.dumps({n: v for n, v in row.items() if v is not None}, ensure_ascii=False), flush=True)
                seen[row["id"]] = moment
            # Workers store in parallel, so a record may become visible a little later than a newer record.
            since = max(since, max(seen.values(), default=since) - timedelta(seconds=5))
            seen = {each: moment for each, moment in seen.items() if moment >= since}
            if deadline is not None and time.monotonic() >= deadline:
                return 0
            time.sleep(options.interval)


def _rows_of_all_pages(query: Query) -> Iterator[Mapping[str, Any]]:
    page = query.run()
    yield from page.rows
    while page.cursor:
        page = query.after(page.cursor).run()
        yield from page.rows


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


# -- managing -------------------------------------------------------------------------------------------


def run_datasets(options: Namespace) -> int:
    """List the datasets, or create one."""
    with _client(options) as client:
        if options.create:
            print(client.create_dataset(options.create)["id"])
            return 0
        _print(["id", "slug", "name", "status"], list(client.datasets()), "table")
    return 0


def run_schema(options: Namespace) -> int:
    """Push, pull or diff a schema."""
    with _client(options) as client:
        in_force = client.schema(options.dataset)
        if options.action == "pull":
            options.file.write_text(_declaration((in_force or {}).get("fields", {})))
            return 0
        said = json.loads(options.file.read_text())
        fields = said["fields"] if isinstance(said.get("fields"), dict) else said
        if options.action == "push":
            print(f"Version {client.publish(options.dataset, fields)['version']} is in force.")
            return 0
    theirs = _declaration((in_force or {}).get("fields", {})).splitlines()
    ours = _declaration(fields).splitlines()
    lines = list(difflib.unified_diff(theirs, ours, "in force", str(options.file), lineterm=""))
    print("\n".join(lines) if lines else "The file has the schema in force.")
    return _DIFFERS if lines else 0


def _declaration(fields: Mapping[str, Any]) -> str:
    return json.dumps({"fields": fields}, indent=2, ensure_ascii=False) + "\n"


def run_keys(options: Namespace) -> int:
    """List, create or revoke API keys."""
    with _client(options) as client:
        if options.create:
            print(client.create_key(options.create, expires_at=options.expires)["token"])
        elif options.revoke:
            client.revoke_key(options.revoke)
        else:
            _print(["id", "name", "state", "expires_at", "last_used_at"], list(client.api_keys()), "table")
    return 0
