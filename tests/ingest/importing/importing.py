"""Run `manage.py import` in this process, and read the rows that it has refused."""

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from django.core.management import CommandError, call_command

from datasets.models import Dataset


class Done(NamedTuple):
    """A command's exit code, and what it has printed."""

    code: int
    out: str
    err: str


def import_file(dataset: Dataset, path: Path, *words: str) -> Done:
    out, err = StringIO(), StringIO()
    code = 0
    with redirect_stderr(err):
        try:
            call_command("import", str(dataset.pk), str(path), *words, stdout=out, stderr=err)
        except CommandError as error:
            code = 1
            err.write(str(error))
        except SystemExit as end:
            code = int(str(end.code))
    return Done(code, out.getvalue(), err.getvalue())


def refused(path: Path) -> list[dict[str, Any]]:
    """Return the content of the file of refused rows that belongs to a data file."""
    lines = path.with_name(f"{path.name}.refused.ndjson").read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_lines(path: Path, *records: Any) -> Path:
    """Write an NDJSON file: texts as they are, anything else as JSON."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in records]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
