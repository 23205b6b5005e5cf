"""The generation: the name of the present set of Redis data. A wiped Redis gets a new one."""

import secrets

from config.common import redis
from datasets import installation
from ingest.queue import redis_keys
from ingest.queue.scripts import script


def current() -> str | None:
    """Return the present generation; None before the first acceptance."""
    found: bytes | None = redis.client().get(redis_keys.GENERATION)
    return found.decode() if found else None


def begin() -> str:
    """Return the present generation. Begin a new one if there is none.

    Raises:
        datasets.installation.UnusableData: The data is not ours.
    """
    keys = [redis_keys.GENERATION, installation.DATA_VERSION, installation.INSTALLATION]
    while True:
        installation.check()
        args: list[redis.Argument] = [secrets.token_hex(4), installation.CURRENT_VERSION, installation.our_id()]
        found: bytes | None = script("begin")(keys=keys, args=args)
        if found is not None:
            return found.decode()
