"""The generation: the name of the present set of Redis data. If Redis has lost its data, it gets a new generation.

In a cluster, the data of each user has its own generation, because a wiped server loses the data of only some users.
"""

import secrets

from config.common import redis
from config.common.cluster.key_tags import tagged
from datasets import installation
from ingest.queue import redis_keys
from ingest.queue.scripts import script


def current(tag: int) -> str | None:
    """Return the present generation of the data whose keys have this tag, or None before the first acceptance."""
    found: bytes | None = redis.client().get(tagged(redis_keys.GENERATION, tag))
    return found.decode() if found else None


def begin(tag: int) -> str:
    """Return the present generation of the data whose keys have this tag. Begin a new one if there is none.

    Raises:
        datasets.installation.UnusableData: The data is of another installation or release.
    """
    names = (redis_keys.GENERATION, installation.DATA_VERSION, installation.INSTALLATION)
    keys = [tagged(name, tag) for name in names]
    while True:
        installation.check([tag])
        args: list[redis.Argument] = [secrets.token_hex(4), installation.CURRENT_VERSION, installation.our_id()]
        found: bytes | None = script("begin")(keys=keys, args=args)
        if found is not None:
            return found.decode()
