"""The Lua scripts of the queue. Redis runs each of them as one step."""

from functools import cache
from pathlib import Path
from typing import Any

from config.common import redis

LUA = Path(__file__).parent / "lua"


@cache
def script(name: str) -> Any:
    """Return `lua/<name>.lua` as a function of `keys` and `args`."""
    return redis.load_script(LUA / f"{name}.lua")
