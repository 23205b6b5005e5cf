"""Prometheus metrics. Each request for them reads Redis, so each web process reports on the whole service.

There are only totals: a label with a project or dataset would show the traffic of one project to others.
"""

from collections import Counter
from collections.abc import Iterator

from django.db import DatabaseError
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from config.common import redis
from config.common.cluster.key_tags import NO_TAG, tagged
from datasets import tags
from datasets.queries import figures
from ingest.monitoring import heartbeat, memory
from ingest.monitoring.refusals import REJECTED_RECORDS
from ingest.queue import redis_keys, turns

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class _RedisCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("ingest_redis_up", "1 if Redis answers. In a cluster, 1 if the database answers, too.")
        try:
            metrics = list(self._from_redis())
        except (RedisError, OSError, DatabaseError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from metrics

    def _from_redis(self) -> Iterator[Metric]:
        totals = (redis_keys.TOTAL_ACCEPTED, redis_keys.TOTAL_BYTES)
        in_use = tags.in_use()
        accepted, size = (_sum([("GET", tagged(name, tag)) for tag in in_use]) for name in totals)
        pending = turns.pending()
        queued = _sum([("GET", redis_keys.queued(dataset_id)) for dataset_id in pending])
        overdue = 0.0
        if pending:
            first = min(pending, key=pending.__getitem__)
            overdue = max(0.0, turns.now_ms(tags.of_dataset(first)) - pending[first]) / 1000
        yield _counter("ingest_accepted_records", "Records accepted since Redis was set up.", accepted)
        yield _gauge("ingest_queued_records", "Accepted records that are not stored yet.", queued)
        yield _gauge("ingest_queued_bytes", "Bytes of the request bodies in the queue.", size)
        yield _gauge("ingest_pending_datasets", "Datasets with records to store.", len(pending))
        yield _gauge("ingest_drain_overdue_seconds", "Seconds since the longest waiting dataset was due.", overdue)
        used, limit = memory.read()
        yield _gauge("ingest_redis_memory_bytes", "Bytes of memory that Redis uses.", used)
        yield _gauge(
            "ingest_redis_memory_limit_bytes",
            "Redis's maxmemory in bytes, 0 if unlimited. Admission stops at about 80 %.",
            limit,
        )
        yield from _processes()
        refused = CounterMetricFamily("ingest_refused_requests", "Refused requests by error code.", labels=["code"])
        counts: Counter[str] = Counter()
        for found in redis.each([("HGETALL", tagged(redis_keys.REFUSED, tag)) for tag in {NO_TAG, *in_use}]):
            counts.update({code.decode(): int(count) for code, count in found.items()})
        rejected = counts.pop(REJECTED_RECORDS, 0)
        for code, count in sorted(counts.items()):
            refused.add_metric([code], count)
        yield refused
        yield _counter(
            "ingest_rejected_records", "Bad records in lenient batches whose other records were accepted.", rejected
        )
        yield from _queries()


def _sum(commands: list[tuple[str, str]]) -> int:
    """Return the sum of the numbers that Redis has for these commands. A number that is missing counts as 0."""
    return sum(int(number or 0) for number in redis.each(commands))


def _queries() -> Iterator[Metric]:
    """Yield the figures of queries: how many had a result, how many were refused, and how long clients waited."""
    totals = figures.totals()
    yield _counter("ingest_queries", "Queries that were answered with a result.", totals.count)
    yield _counter("ingest_query_seconds", "Seconds that clients have waited for queries.", totals.seconds)
    refused = CounterMetricFamily("ingest_refused_queries", "Refused queries by error code.", labels=["code"])
    for code, count in sorted(totals.refused.items()):
        refused.add_metric([code], count)
    yield refused


def _processes() -> Iterator[Metric]:
    """Yield the state of the background processes, and of the storage as a worker sees it."""
    heartbeats = heartbeat.read()
    is_ok = GaugeMetricFamily("ingest_process_ok", "1 if the process or the storage is ok.", labels=["process"])
    age = GaugeMetricFamily("ingest_heartbeat_age_seconds", "Seconds since the last heartbeat.", labels=["process"])
    for name, last in heartbeats.items():
        is_ok.add_metric([name], 1 if last and last.state == "ok" else 0)
        if last:
            age.add_metric([name], last.age)
    yield is_ok
    yield age


def text() -> bytes:
    """Return the metrics in Prometheus's text format."""
    return generate_latest(_registry)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


_registry = CollectorRegistry()
_registry.register(_RedisCollector())
