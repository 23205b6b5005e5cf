"""The Celery application in a process whose clock is wrong, as Celery sees it.

The time of day is ahead by the seconds in a file, which is read at every look. (Not for the whole process: msgspec and
others take no other datetime than Python's own.)
"""

import datetime
import importlib
import os
import sys
import time
from pathlib import Path

from config import celery

_AHEAD = Path(os.environ["SECONDS_AHEAD"])


def _moved_time() -> float:
    return time.time() + float(_AHEAD.read_text())


class MovedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "MovedDatetime":
        return cls.fromtimestamp(_moved_time(), tz)


for _name in ("worker.request", "app.base", "app.amqp", "utils.time", "schedules", "beat"):
    importlib.import_module(f"celery.{_name}")
_moved = {datetime.datetime: MovedDatetime, time.time: _moved_time}
for _name, _module in [*sys.modules.items()]:
    if _name.startswith(("celery.", "kombu.")):
        for _attribute, _value in [*vars(_module).items()]:
            if _value is datetime.datetime or _value is time.time:
                setattr(_module, _attribute, _moved[_value])

app = celery.app
