"""The command `dataset-ingest`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_ingest import commands
from dataset_ingest.errors import DatasetError
from dataset_ingest.importing.rows import Stopped
from dataset_ingest.version import __version__

_EPILOG = """
The address and the secrets can be set in the environment:
  DATASET_INGEST_URL      the address of the service, like https://ingest.example.com
  DATASET_INGEST_KEY      a project's API key: for import
  DATASET_INGEST_TOKEN    a personal access token (pat_...): for all other commands
  DATASET_INGEST_PROJECT  the slug of the project: for all other commands

examples:
  dataset-ingest import orders.csv --dataset 13 --timestamp-field ordered_at --map "Customer Name=customer"
  dataset-ingest query 13 '{"select": [{"aggregate": "count", "as": "events"}]}'
  dataset-ingest schema diff 13 orders.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except (DatasetError, Stopped, ValueError, OSError) as error:
        print(f"dataset-ingest: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="dataset-ingest",
        description="Import, read and manage the records of the dataset ingest service.",
        epilog=_EPILOG,
        formatter_class=described,
    )
    parser.add_argument("--version", action="version", version=__version__)
    common = argparse.ArgumentParser(add_help=False)
    url = os.environ.get("DATASET_INGEST_URL", "http://localhost:8000")
    common.add_argument("--url", default=url, help="address of the service (DATASET_INGEST_URL)")
    key = argparse.ArgumentParser(add_help=False, parents=[common])
    key.add_argument("--key", default=os.environ.get("DATASET_INGEST_KEY"), help="API key (DATASET_INGEST_KEY)")
    token = argparse.ArgumentParser(add_help=False, parents=[common])
    mine = os.environ.get("DATASET_INGEST_TOKEN")
    token.add_argument("--token", default=mine, help="personal access token (DATASET_INGEST_TOKEN)")
    project = os.environ.get("DATASET_INGEST_PROJECT")
    token.add_argument("--project", default=project, help="slug of the project (DATASET_INGEST_PROJECT)")
    added = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_import(added, key)
    _add_reading(added, token)
    _add_managing(added, token)
    return parser


def _add_import(added: argparse._SubParsersAction[argparse.ArgumentParser], key: argparse.ArgumentParser) -> None:
    text = (
        "Import the records of a CSV, NDJSON or Parquet file. If the command is interrupted, run it again: it "
        "continues, and no row is stored twice. Rows that do not match the schema go to a file of their own, with the "
        "reason. Exit with 3 if there are such rows, and with 1 if the import stopped before the end of the file."
    )
    each = added.add_parser("import", parents=[key], help="import a file", description=text)
    each.add_argument("file", type=Path, help="path of the file: .csv, .ndjson, .jsonl or .parquet (needs pyarrow)")
    each.add_argument("--dataset", type=int, required=True, metavar="ID", help="ID of the dataset")
    each.add_argument(
        "--map", action="append", default=[], metavar="COLUMN=FIELD", help="the column becomes this field"
    )
    each.add_argument(
        "--timestamp-field", "--timestamp-column", metavar="COLUMN", help="the same as --map COLUMN=timestamp"
    )
    each.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="leave out this column")
    each.add_argument("--delimiter", default=",", metavar="CHARACTER", help="csv: what separates cells (default: ,)")
    each.add_argument("--refused", type=Path, metavar="PATH", help="file for refused rows (FILE.refused.ndjson)")
    each.add_argument("--progress", type=Path, metavar="PATH", help="file for the progress (FILE.import-ID)")
    each.add_argument(
        "--uncertain",
        choices=["send", "skip"],
        help="what to do with rows that were sent more than 23 hours ago and may have been accepted",
    )
    each.set_defaults(run=commands.run_import)


def _add_reading(added: argparse._SubParsersAction[argparse.ArgumentParser], token: argparse.ArgumentParser) -> None:
    each = added.add_parser("query", parents=[token], help="query records", description="Print the rows of a query.")
    each.add_argument("dataset", type=int, help="ID of the dataset")
    each.add_argument("query", nargs="?", default="{}", help="the query in JSON, or @FILE (default: count the records)")
    each.add_argument("--format", choices=["table", "ndjson", "csv"], default="table")
    each.set_defaults(run=commands.run_query)
    each = added.add_parser(
        "tail", parents=[token], help="show new records", description="Print records as they arrive, as NDJSON."
    )
    each.add_argument("dataset", type=int, help="ID of the dataset")
    each.add_argument("--since", metavar="TIME", help="also print records that arrived since this time (RFC 3339)")
    each.add_argument("--seconds", type=float, help="stop after this time. Without it, the command runs until Ctrl-C")
    each.add_argument("--interval", type=float, default=1.0, help="seconds between two queries (default: 1)")
    each.set_defaults(run=commands.run_tail)


def _add_managing(added: argparse._SubParsersAction[argparse.ArgumentParser], token: argparse.ArgumentParser) -> None:
    each = added.add_parser("datasets", parents=[token], help="list or create datasets")
    each.add_argument("--create", metavar="NAME", help="create a dataset with this name")
    each.set_defaults(run=commands.run_datasets)
    text = (
        "Keep a schema in a file. pull writes the schema in force to the file. diff shows how the file differs from "
        "the schema in force, and exits with 3 if they differ. push publishes the file."
    )
    each = added.add_parser("schema", parents=[token], help="push, pull or diff a schema", description=text)
    each.add_argument("action", choices=["push", "pull", "diff"])
    each.add_argument("dataset", type=int, help="ID of the dataset")
    each.add_argument("file", type=Path, help='a file like {"fields": {"amount": "number"}}')
    each.set_defaults(run=commands.run_schema)
    each = added.add_parser("keys", parents=[token], help="list, create or revoke API keys")
    each.add_argument("--create", metavar="NAME", help="create a key with this name, and print it once")
    each.add_argument(
        "--expires", metavar="TIME", help="with --create: when the key expires, like 2027-01-31T00:00:00Z"
    )
    each.add_argument("--revoke", metavar="ID", help="revoke the key with this ID")
    each.set_defaults(run=commands.run_keys)
