"""Base class of our commands: turns expected errors into a CommandError that says what to do."""

import os
import sys
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from redis.exceptions import RedisError
from rich.console import Console
from rich.text import Text

from config.common.env import SETTINGS_CHECKS
from config.common.errors import Refused
from config.common.redis import RedisUnavailable
from config.common.text import visible, visible_lines
from config.lazy import deltalake

_BESIDE = "Is the service running, and does it have the same DATA_DIR and the same settings as this command?"
# The exit code that a shell reports for a program ended by SIGPIPE, such as `cat` in `cat large | head`.
_ENDED_BY_SIGPIPE = 141


class TableConsole(Console):
    """A console for tables. If the pipe is closed, the command decides what to do; rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def cell(text: str) -> Text:
    """Return a table cell that shows the text literally: rich reads markup and emoji names in plain strings."""
    return Text(visible(text))


def moment(text: str) -> datetime:
    """Return an ISO 8601 date or time as a UTC time. Raise ArgumentTypeError if it is not a time."""
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"“{text}” is not a time. Write 2027-01-31 or 2027-01-31T12:00:00Z.") from None


class ServiceCommand(BaseCommand):
    """A command of this service. It prints an expected error without a traceback, and exits with 1.

    Before it runs, only our checks of the settings run. Django's other system checks import every view, and this takes
    longer than most commands. `up` and `check` run all checks.
    """

    requires_system_checks: Any = (SETTINGS_CHECKS,)

    def execute(self, *args: Any, **options: Any) -> str | None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for terminals that show ASCII only
        try:
            return self._execute(*args, **options)
        except CommandError as error:
            error.args = (visible_lines(str(error)),)  # the message may quote names that users chose
            raise

    def _execute(self, *args: Any, **options: Any) -> str | None:
        try:
            said = super().execute(*args, **options)
            sys.stdout.flush()
            return said
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        except Refused as error:
            raise CommandError(str(error)) from error
        except (OperationalError, ProgrammingError) as error:
            message = f"The database: {_first_line(error)}. {_BESIDE} A new database needs `manage.py migrate`."
            raise CommandError(message) from error
        except (RedisError, RedisUnavailable) as error:
            raise CommandError(f"Redis: {error}. {_BESIDE}") from error
        except BrokenPipeError:
            # The reader has closed the pipe. At exit, Python would write what is still buffered. Discard it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_ENDED_BY_SIGPIPE)
        except deltalake.exceptions.DeltaError as error:
            raise CommandError(f"The storage: {_first_line(error)}. {_BESIDE}") from error
        except OSError as error:
            raise CommandError(f"{error}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
