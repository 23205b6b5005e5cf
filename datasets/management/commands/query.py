"""The command `manage.py query`."""

from __future__ import annotations

import io
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management.base import CommandError, DjangoHelpFormatter

from config.common.commands import ServiceCommand
from config.common.text import counted, visible_lines
from datasets.management.output import sink, write_table
from datasets.models import Dataset
from datasets.queries import columns, engine, language
from datasets.queries.engine import Result
from datasets.queries.errors import InvalidQuery, QueryTooLarge
from datasets.queries.execution.snapshot import Location
from datasets.queries.parsing.values import read_json
from datasets.queries.processes import formats
from datasets.queries.query import Query
from datasets.strict_json import NotJson
from datasets.tables import exports

_MEDIA_TYPES = {"csv": formats.CSV, "ndjson": formats.NDJSON, "arrow": formats.ARROW}


def _operators() -> str:
    """Return a line for each group of types that have the same operators."""
    types: dict[str, list[str]] = {}
    for kind, operators in columns.OPERATORS.items():
        types.setdefault(" ".join(operators) or "(none)", []).append(kind)
    return "\n".join(f"  {', '.join(kinds)}:\n      {operators}" for operators, kinds in types.items())


_MANUAL = f"""\
A query is a JSON object. Each of its members is optional:

  range    {{"from": "2026-06-01T00:00:00Z", "to": "2026-06-10T23:59:59Z"}}, the first and the last `timestamp`.
           Default: the last 7 days.
  select   The columns of the result, an array of:
             {{"field": "country"}}
             {{"aggregate": "sum", "field": "amount", "as": "total"}}
             {{"bucket": "day", "field": "timestamp", "timezone": "Europe/Bucharest"}}
           Each column may have a name in "as". Default: a count.
  where    Conditions that all must be true: [{{"field": "plan", "op": "=", "value": "pro"}}]
  groupBy  Names of fields, and of buckets in select: ["country"]
  orderBy  [{{"field": "total", "direction": "desc"}}]; the direction is asc or desc.
  limit    The maximum number of rows, {language.DEFAULT_LIMIT} by default and {language.MAX_LIMIT} at most.
  cursor   What the command has printed for the next page of the same query.

fields: the declared fields, {", ".join(each.name for each in columns.SYSTEM_COLUMNS)}
aggregates: {", ".join(columns.AGGREGATES)}
buckets: {", ".join(columns.BUCKETS)}
operators, by type (optional fields also have {" ".join(columns.NULL_OPERATORS)}):
{_operators()}

examples:
  manage.py query 1 '{{}}'
  manage.py query 1 '{{"select": [{{"field": "country"}}, {{"aggregate": "count"}}], "groupBy": ["country"]}}'
  manage.py query 1 @query.json --format csv -o result.csv
  echo '{{"select": [{{"field": "id"}}]}}' | manage.py query 1 - --format ndjson

docs/queries.md explains each part.
"""


class _Manual(RawDescriptionHelpFormatter, DjangoHelpFormatter):
    """Keeps the line breaks of the manual."""


class Command(ServiceCommand):
    """Query stored records."""

    help = "Query a dataset's stored records, and print the result."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(prog_name, subcommand, formatter_class=_Manual, epilog=_MANUAL, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=int, help="ID of the dataset")
        parser.add_argument("query", help="the query in JSON, @FILE to read it from a file, or - for standard input")
        parser.add_argument("--format", choices=("table", *_MEDIA_TYPES), default="table", help="default: %(default)s")
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to a file, not to standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = Dataset.objects.filter(pk=options["id"]).first()
        if dataset is None:
            raise CommandError(f"There is no dataset {options['id']}.")
        file_format, path = options["format"], options["output"]
        if file_format == "arrow" and path is None and sys.stdout.isatty():
            raise CommandError("A terminal cannot show arrow. Name a file with -o, or use a pipe.")
        result = _run(dataset, _parsed(dataset, options["query"]))
        with sink(path) as out:
            if file_format == "table":
                rows = [row for batch in result.rows.to_batches() for row in exports.rows(batch)]
                write_table(rows, out, nothing="No record matches.")
            else:
                _write(result, _MEDIA_TYPES[file_format], out)
        self._note(result, options)

    def _note(self, result: Result, options: dict[str, Any]) -> None:
        """Print on standard error what the rows do not show."""
        if result.truncated:
            note = f"There are more rows than these {result.rows.num_rows:,}."
            if result.cursor:
                note += f' For the next page, add "cursor": "{result.cursor}" to the query.'
            self.stderr.write(note)
        if options["format"] == "table" and options["verbosity"]:
            stats = result.stats
            read = f"{counted(stats.files_scanned, 'file')} with {counted(stats.bytes_scanned, 'byte')}"
            self.stderr.write(f"{counted(result.rows.num_rows, 'row')} in {stats.elapsed_ms} ms from {read}.")


def _write(result: Result, media_type: str, out: IO[bytes]) -> None:
    """Write a result. A terminal gets control characters as escapes."""
    if not out.isatty():
        formats.write(result, media_type, out)
        return
    text = io.BytesIO()
    formats.write(result, media_type, text)
    out.write(visible_lines(text.getvalue().decode()).encode())


def _parsed(dataset: Dataset, given: str) -> Query:
    """Return the query that the command line gives."""
    fields = columns.fields_of(dataset)
    if fields is None:
        raise CommandError("Dataset schema not found. Declare the fields first.")
    try:
        return language.parse(read_json(_text(given)), fields)
    except InvalidQuery as invalid:
        raise _refused(invalid) from invalid
    except NotJson as error:
        raise CommandError(f"Invalid JSON body: {error}") from error


def _text(given: str) -> bytes:
    if given == "-":
        return sys.stdin.buffer.read()
    if given.startswith("@"):
        return Path(given[1:]).read_bytes()
    return given.encode(errors="surrogateescape")


def _run(dataset: Dataset, query: Query) -> Result:
    memory: int = settings.QUERY_MEMORY_BYTES
    try:
        return engine.run(query, Location.of(dataset), memory_bytes=memory)
    except InvalidQuery as invalid:
        raise _refused(invalid) from invalid
    except QueryTooLarge as large:
        raise CommandError(
            f"Query too large. It needs more than {memory:,} bytes of memory. Choose a shorter range, select fewer "
            "fields, group by fields with fewer values, or raise QUERY_MEMORY_BYTES for this command."
        ) from large


def _refused(invalid: InvalidQuery) -> CommandError:
    """Return an error with a line for each problem. A line has the path of the problem and the API's detail."""
    lines = (f"{each.at}: {each.detail}" if each.at else each.detail for each in invalid.problems)
    return CommandError("\n  ".join(("Invalid query", *lines)))
