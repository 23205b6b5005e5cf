"""Prometheus metrics, read from Redis when asked for: any web process answers for all of them.

Totals only: a label that named a project or a dataset would tell a tenant of another's.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from config.common import redis
from ingest.monitoring import heartbeat, memory
from ingest.monitoring.refusals import REJECTED_RECORDS
from ingest.queue import redis_keys, turns

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class _QueueCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("ingest_redis_up", "1 if Redis answers; without it there is nothing else to tell.")
        try:
            metrics = list(self._from_redis())
        except (RedisError, OSError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from metrics

    def _from_redis(self) -> Iterator[Metric]:
        client = redis.client()
        accepted, size = client.mget(redis_keys.TOTAL_ACCEPTED, redis_keys.TOTAL_BYTES)
        pending = turns.pending()
        waiting = [redis_keys.queued(dataset_id) for dataset_id in pending]
        queued = sum(int(records or 0) for records in (client.mget(waiting) if waiting else []))
        seconds, microseconds = client.time()  # due times are by Redis's clock
        overdue = max(0.0, seconds + microseconds / 1e6 - min(pending.values()) / 1000) if pending else 0.0
        yield _counter("ingest_accepted_records", "Records accepted since Redis was set up.", int(accepted or 0))
        yield _gauge("ingest_queued_records", "Records accepted and not yet stored.", queued)
        yield _gauge("ingest_queued_bytes", "Bytes of the bodies in the queue.", int(size or 0))
        yield _gauge("ingest_pending_datasets", "Datasets with something to store.", len(pending))
        yield _gauge("ingest_drain_overdue_seconds", "How long the longest waiting dataset is due.", overdue)
        used, limit = memory.seen()
        yield _gauge("ingest_redis_memory_bytes", "Memory that Redis uses.", used)
        yield _gauge("ingest_redis_memory_limit_bytes", "Redis's maxmemory; 0 is none. Admission stops at 80 %.", limit)
        yield from _processes()
        refused = CounterMetricFamily("ingest_refused_requests", "Requests refused, by error code.", labels=["code"])
        counts = {code.decode(): int(count) for code, count in client.hgetall(redis_keys.REFUSED).items()}
        rejected = counts.pop(REJECTED_RECORDS, 0)
        for code, count in sorted(counts.items()):
            refused.add_metric([code], count)
        yield refused
        yield _counter(
            "ingest_rejected_records", "Records refused in lenient batches, of which others were taken.", rejected
        )


def _processes() -> Iterator[Metric]:
    """Describe the processes behind the API, and the storage as a worker sees it."""
    signs = heartbeat.read()
    well = GaugeMetricFamily("ingest_process_ok", "1 if the process (or the storage) is well.", labels=["process"])
    age = GaugeMetricFamily("ingest_heartbeat_age_seconds", "Since the last sign of life.", labels=["process"])
    for name, sign in signs.items():
        well.add_metric([name], 1 if sign and sign.state == "ok" else 0)
        if sign:
            age.add_metric([name], sign.age)
    yield well
    yield age


def text() -> bytes:
    """The exposition."""
    return generate_latest(_registry)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


_registry = CollectorRegistry()
_registry.register(_QueueCollector())
