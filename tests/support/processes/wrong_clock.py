"""The Celery application in a process in which Celery sees a wrong time.

The time is ahead by the number of seconds in a file. Each call reads this file. Only Celery's modules see the wrong
time, because msgspec and other packages accept only Python's own datetime.
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
