"""The ceiling: the rate that would be left if Django, DRF and our own code cost nothing.

A bare WSGI function that decodes the same body with the same msgspec type and makes one plain redis-py `evalsha`
(limit, two counters, XADD, ZADD), served by the same server with the same workers. It does not change when we find a
faster way to do any of this.
"""

import os
from datetime import datetime
from typing import Annotated, Any

import msgspec
import redis
from msgspec import Meta, Struct

_SCRIPT = """
local limit = tonumber(redis.call('GET', KEYS[1]) or '-1')
local count = tonumber(ARGV[1])
local used = tonumber(redis.call('GET', KEYS[2]) or '0')
if limit ~= -1 and used + count > limit then
    return {0, limit, used}
end
redis.call('INCRBY', KEYS[2], count)
redis.call('INCRBY', KEYS[3], count)
local id = redis.call('XADD', KEYS[4], '*', 'b', ARGV[2], 'n', ARGV[1])
redis.call('ZADD', KEYS[5], 'NX', 0, '1')
return {1, id}
"""
_KEYS = ("ceiling:limit", "ceiling:total", "ceiling:delta", "ceiling:stream", "ceiling:pending")

Timestamp = Annotated[datetime, Meta(tz=True)]


class AnyObject(Struct, gc=False):
    """Matches any JSON object."""


class Record(Struct, forbid_unknown_fields=True, gc=False):
    """Return the type of the benchmark's record, as the product compiles it."""

    timestamp: Timestamp
    context: AnyObject
    country: str
    plan: str
    amount: float
    active: bool
    signup_at: Timestamp


_one = msgspec.json.Decoder(Record).decode
_many = msgspec.json.Decoder(list[Record]).decode
_redis = redis.Redis.from_url(os.environ["REDIS_URL"])
_sha = _redis.script_load(_SCRIPT)


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer POST /datasets/<id> and /datasets/<id>/batch, without checking a key or a dataset."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    if environ["PATH_INFO"].endswith("/batch"):
        count = len(_many(body))
        answer = b'{"success":true,"count":%d,"status":"queued"}' % count
    else:
        _one(body)
        count = 1
        answer = b'{"success":true,"status":"queued"}'
    _redis.evalsha(_sha, len(_KEYS), *_KEYS, count, body)
    start_response("202 Accepted", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
