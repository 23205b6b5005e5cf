"""The process beside a running service that acts as an admin would: `-m tests.faults.actors.operator_process`.

It reads orders as JSON objects, one on each line: `{"do": <name>, ...arguments}`. It answers each with
`{"answer": ...}` or `{"error": ...}`.
"""

import io
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import close_old_connections  # noqa: E402

from config.common import clock, redis  # noqa: E402
from datasets import services, tags  # noqa: E402
from datasets.contracts.keys import issue_token  # noqa: E402
from datasets.models import ApiKey, Dataset, Project, SchemaVersion  # noqa: E402
from datasets.schemas.fields import Field  # noqa: E402
from datasets.tables.table import DatasetTable  # noqa: E402
from ingest.queue import generations, redis_keys  # noqa: E402
from ingest.storing import drain, ledger, upkeep  # noqa: E402
from quotas import counters  # noqa: E402
from quotas.models import MonthlyUsage  # noqa: E402
from quotas.services import set_limit  # noqa: E402


def ready() -> str:
    return "ready"


def command(arguments: list[str]) -> str:
    """Run a management command. Return what it prints."""
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def make_project(slug: str, owner: str, limit: int, schemas: list[dict[str, str]]) -> dict[str, Any]:
    """Create a project, and a dataset for each schema."""
    user, created = User.objects.get_or_create(username=owner)
    if created:
        set_limit(user, limit)
    project = services.create_project(slug=slug, owner=user)
    datasets = [
        services.create_dataset(project=project, name=f"{slug} {number}", fields=_fields(schema)).pk
        for number, schema in enumerate(schemas)
    ]
    return {"project": project.pk, "datasets": datasets, "owner": user.pk}


def publish(dataset: int, schema: dict[str, str], grace: float) -> int:
    """Publish a schema, with a grace period of `grace` seconds if that is not 0. Return the version's number."""
    # The service's clock may be ahead by months. But grace periods end by Redis's clock, which is correct.
    with patch.object(clock, "now", lambda: datetime.now(UTC)):
        until = clock.now() + timedelta(seconds=grace) if grace else None
        services.save_dataset(Dataset.objects.get(pk=dataset), fields=_fields(schema), previous_valid_until=until)
    return _latest(dataset).number


def schema(dataset: int) -> dict[str, Any]:
    """Return the number and the fields of the latest version."""
    version = _latest(dataset)
    return {"number": version.number, "fields": [field.name for field in version.field_list()]}


def end_grace(dataset: int, number: int) -> None:
    """End the grace period that began with version `number`, if that is still the latest version."""
    version = _latest(dataset)
    if version.number == number:
        services.end_grace(version)


def _latest(dataset: int) -> SchemaVersion:
    return SchemaVersion.objects.filter(dataset=dataset).latest("number")


def new_key(project: int) -> dict[str, Any]:
    key = services.create_key(project=Project.objects.get(pk=project), name="faults")
    return {"key": key.pk, "token": issue_token(key)}


def revoke(key: int) -> None:
    services.revoke_key(ApiKey.objects.get(pk=key))


def race(dataset: int, times: int) -> int:
    """Drain a dataset `times` times, even if another drain has claimed it. Return how many rows were written."""
    written = 0
    for _ in range(times):
        redis.client().delete(redis_keys.lock(dataset))
        written += drain.drain(dataset)
    return written


def tidy(everything: bool, hours: int) -> None:
    settings.VACUUM_RETENTION_HOURS = hours
    upkeep.tidy_tables(everything=everything)


def put_ahead(dataset: int) -> None:
    """Set the table's watermark an hour ahead, as if Redis's clock had been an hour ahead."""
    generation = generations.current(tags.of_dataset(dataset))
    table = DatasetTable.of(Dataset.objects.get(pk=dataset))
    if generation and table.refresh():
        position = max(table.watermark(generation), int(time.time() * 1000) << 20) + (3_600_000 << 20)
        table.append(None, generation=generation, watermark=position, stored=table.stored(generation))


def use_up(dataset: int) -> None:
    """Bring a stream near the end of a millisecond's sequence numbers, as happens after a clock was set back."""
    key = redis_keys.stream(dataset)
    if redis.client().exists(key):
        ms, seq = map(int, redis.client().xinfo_stream(key)["last-generated-id"].split(b"-"))
        redis.client().execute_command("XSETID", key, f"{ms}-{max(seq, 2**20 - 10)}")


def balance(dataset: int) -> dict[str, object]:
    return ledger.balance(Dataset.objects.get(pk=dataset)).as_json()


def usage(owner: int) -> dict[str, dict[str, int]]:
    """Return the usage of each month, from the database and from Redis."""
    database = dict(MonthlyUsage.objects.filter(user_id=owner).values_list("period", "used"))
    prefix = counters.total_key(owner, "")
    keys = [key.decode() for key in redis.client().scan_iter(match=f"{prefix}*", count=1000)]
    totals = redis.client().mget(keys) if keys else []
    counted = {key.removeprefix(prefix): int(total) for key, total in zip(keys, totals, strict=True)}
    return {"database": database, "redis": {period: used for period, used in counted.items() if used}}


def _fields(schema: dict[str, str]) -> list[Field]:
    return [Field(name, kind) for name, kind in schema.items()]


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task
    for task in (
        *(ready, command, make_project, schema, publish, end_grace, new_key, revoke),
        *(race, tidy, put_ahead, use_up, balance, usage),
    )
}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        close_old_connections()
        try:
            answer = {"answer": TASKS[order.pop("do")](**order)}
        except Exception as failure:  # noqa: BLE001  # the answer has the error
            answer = {"error": f"{type(failure).__name__}: {str(failure)[:300]}"}
        close_old_connections()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
