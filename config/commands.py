"""What the management commands share: whatever goes wrong is a line that says what to do, not a trace."""

import os
import sys
from typing import Any

from deltalake.exceptions import DeltaError
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from redis.exceptions import RedisError

from config.errors import Refused
from config.redis import RedisUnavailable

_BESIDE = "Is the service running, and are DATA_DIR and all settings here the same as its own?"


class ServiceCommand(BaseCommand):
    """A command of ours. What it raises of the below is told in a sentence; the exit code is 1."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        except Refused as error:
            raise CommandError(str(error)) from error
        except (OperationalError, ProgrammingError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise CommandError(f"The database: {reason}. {_BESIDE} A new one takes `manage.py migrate`.") from error
        except (RedisError, RedisUnavailable) as error:
            raise CommandError(f"Redis: {error}. {_BESIDE}") from error
        except BrokenPipeError:
            # Whoever read it has seen enough. What is still buffered must not be written at the end either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except DeltaError as error:
            raise CommandError(f"The storage: {error}. {_BESIDE}") from error
        except OSError as error:
            raise CommandError(f"{error}") from error
