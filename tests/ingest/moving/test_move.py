"""Kill the processes that move the data of one server to a cluster. Clients and tables see no difference."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.cache import cache as django_cache
from django.core.management import CommandError, call_command

from config.common import redis
from config.common.env import BASE_DIR
from datasets import installation, services
from datasets.contracts import old_form
from datasets.models import ApiKey, Dataset
from datasets.queries import figures
from ingest import tasks
from ingest.models import QuarantinedEntry
from ingest.monitoring import health, heartbeat, metrics, refusals, statistics
from ingest.moving.move import MoveRefused, client_of, move
from ingest.queue import redis_keys, turns
from ingest.storing import quarantine, untidy, upkeep
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from quotas import counters
from quotas import services as quotas
from quotas.models import MonthlyUsage
from tests.conftest import record
from tests.ingest.moving.service import OLD, Service, api_of, database_url, leave_the_rest, of
from tests.support.books import this_month
from tests.support.entries import enqueue, names_in_table, send, status
from tests.support.servers.cluster import ValkeyCluster
from tests.support.servers.outages import everything_in, own_client

FIGURES = (redis_keys.GENERATION, redis_keys.TOTAL_ACCEPTED, redis_keys.TOTAL_BYTES)


def run(*, old: str = OLD) -> str:
    out = StringIO()
    call_command("move_to_cluster", "--from", old, stdout=out)
    return out.getvalue()


@pytest.fixture
def service(three: ValkeyCluster, settings: Any, transactional_db: None) -> Iterator[Service]:
    """A service on one server that was just stopped. It has records of two owners in each state."""
    for node in three.primaries:
        node.client().flushall()
    found = Service(settings, three)
    owners = [User.objects.create_user(f"owner-{number}") for number in range(2)]
    projects = [services.create_project(slug=f"project-{owner.pk}", owner=owner) for owner in owners]
    found.apis = [api_of(project, "Signups") for project in projects]
    for number, api in enumerate(found.apis):
        found.send_keyed(api, f"stored-{number}")
        enqueue(of(api), b"not JSON")
        tasks.drain()
        found.send_keyed(api, f"queued-{number}")
        send(api, f"batch-{number}", f"more-{number}")
        assert api.one(record(plan=7)).status_code == 400
    quotas.set_limit(owners[0], 7)
    leave_the_rest(found, projects)
    found.stop()
    yield found
    found.use_old()


def used(user_id: int) -> int:
    return quotas.current(user_id).used


def measured() -> dict[str, float]:
    """Return the metrics that do not depend on the server or the moment."""
    found = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if line[0] != "#")
    # `enqueue` does not count in the total of all datasets.
    passing = ("ingest_redis", "ingest_process", "ingest_heartbeat", "ingest_drain_overdue", "ingest_accepted")
    return {name: float(value) for name, value in found.items() if not name.startswith(passing)}


def seen(service: Service) -> list[Any]:
    """Return what the admin shows about the data."""
    projects = [of(api).project_id for api in service.apis]
    return [
        [balance(dataset) for dataset in Dataset.objects.order_by("pk")],
        [used(of(api).project.owner_id) for api in service.apis],
        [(each.records, each.last) for each in old_form.senders(of(service.apis[1]).versions.order_by("-number")[0])],
        sorted(refusals.projects()),
        [refusals.latest(project) for project in projects],
        statistics.refused(projects),
        [each.by_hour for each in statistics.traffic([of(api).pk for api in service.apis]).values()],
        figures.slow(projects),
        sorted(untidy.dataset_ids()),
        sorted(turns.pending()),
        django_cache.get("failed_tokens:127.0.0.1"),
        measured(),
    ]


def repeat_all(service: Service) -> None:
    for api, name, first in service.keyed:
        again = api.one(record(country=name), Idempotency_Key=name)
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["Idempotent-Replayed"] == "true"
        if api is not service.archived:
            assert api.one(record(country="another"), Idempotency_Key=name).json()["code"] == "idempotency_key_reused"


def test_a_killed_move_loses_and_doubles_nothing(service: Service) -> None:
    before = seen(service)
    old = everything_in(own_client())
    service.stop()

    kills = [int(number) for number in re.findall(r"\d+", service.run_killed(3))]
    assert min(kills) > 15, kills
    assert everything_in(own_client()) == old, "the old server was changed"

    service.use_cluster()
    assert health.checks()["redis"] == "ok"
    assert seen(service) == before
    repeat_all(service)
    service.stop()  # so that the next process has not seen these requests
    drain_all()
    repeat_all(service)
    for number, api in enumerate(service.apis):
        sent = [f"stored-{number}", f"queued-{number}", f"batch-{number}", f"more-{number}"]
        assert names_in_table(of(api)) == [*sent, "revoked" if number == 0 else "grace"]
    assert all(balance(dataset).adds_up for dataset in Dataset.objects.all())


def drain_all() -> None:
    while turns.pending():
        tasks.drain()


def test_quotas_keys_and_quarantine_go_on_after_a_move(service: Service) -> None:
    first, second = service.apis
    users = [of(api).project.owner_id for api in service.apis]
    before = [used(user_id) for user_id in users]
    service.stop()
    service.use_cluster()
    assert run().endswith("The data is in the cluster. Start the service with the present REDIS_URL.\n")
    assert quotas.flush() == 2
    assert [*MonthlyUsage.objects.order_by("user_id").values_list("used", flat=True)] == before
    assert service.revoked is not None
    assert service.revoked.one(record()).status_code == 401
    assert [first.one(record()).status_code for _ in range(2)] == [202, 429]
    assert used(users[0]) == 7
    for entry in QuarantinedEntry.objects.all():
        assert quarantine.replay(entry)
    upkeep.note_key_use()
    assert not ApiKey.objects.filter(last_used_at=None, revoked_at=None).exists()
    drain_all()
    assert all(balance(dataset).adds_up for dataset in Dataset.objects.all())
    assert QuarantinedEntry.objects.filter(state=QuarantinedEntry.State.HELD).count() == 2
    assert status(second, second.one(record(), Idempotency_Key="new"))["status"] == "queued"


def test_an_unfinished_move_is_refused_everywhere_and_can_be_taken_back(service: Service) -> None:
    api = service.apis[0]
    service.run_killed(40, 41)
    service.use_cluster()
    words = "a move has not ended. Run `manage.py move_to_cluster` again."
    assert words in health.checks()["redis"]
    answer = api.one(record())
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
    for work in (lambda: drain(of(api).pk), quotas.flush, upkeep.note_key_use):
        with pytest.raises(installation.UnfinishedMove):
            work()
    with pytest.raises(CommandError, match="a move has not ended"):
        call_command("migrate_queue")
    another = api_of(services.create_project(slug="new", owner=User.objects.create_user("new")), "New")
    assert another.one(record()).status_code == 503

    service.go_back()
    service.send_keyed(api, "back")
    drain_all()
    assert names_in_table(of(api))[-1] == "back"
    assert quotas.flush() == 2
    service.stop()
    service.use_cluster()
    stale = counters.delta_key(of(api).project.owner_id, this_month())
    redis.client().set(stale, 7)  # as if the first run had copied this key before the old server lost it
    run()
    assert not redis.client().exists(stale)
    assert turns.pending() == {}
    assert sum(each.backlog.bytes for each in statistics.traffic([of(api).pk for api in service.apis]).values()) == 0
    assert all(balance(dataset).adds_up for dataset in Dataset.objects.all())
    repeat_all(service)


def test_usage_of_a_user_without_a_project_is_kept(service: Service) -> None:
    service.go_back()
    project = of(service.apis[0]).project
    former = project.owner
    project.owner = of(service.apis[1]).project.owner
    project.save()
    before = used(former.pk)
    service.stop()
    service.use_cluster()
    run()
    assert MonthlyUsage.objects.get(user_id=former.pk).used == before == used(former.pk)
    drain_all()
    assert all(balance(dataset).adds_up for dataset in Dataset.objects.all())


def test_a_move_is_refused_with_words(service: Service) -> None:
    def refused(words: str, *, old: str = OLD) -> None:
        with pytest.raises(CommandError, match=words):
            run(old=old)

    refused("REDIS_URL must name the cluster")
    service.use_cluster()
    refused("--from names a cluster", old=service.cluster.url)
    refused("--from: .*must specify one of", old="postgres://host")
    refused("has no data of this service", old=OLD.replace("db=0", "db=5"))
    worker = redis_keys.heartbeat("worker")
    own_client().set(worker, "ok", ex=60)
    refused("less than 60 seconds ago: worker")
    own_client().delete(worker)
    heartbeat.write("beat")
    refused("less than 60 seconds ago: beat")
    redis.client().delete(redis_keys.heartbeat("beat"))
    web = own_client()
    web.client_setname(django_settings.REDIS_CLIENT_NAME)
    refused("still connected to the old server: ")
    web.close()
    version = own_client().getset(installation.DATA_VERSION, 1)
    refused("has version 1, .* run `manage.py migrate_queue` first")
    own_client().set(installation.DATA_VERSION, version)
    with psycopg.connect(database_url()) as another:
        another.execute("SELECT 1 FROM datasets_installation FOR UPDATE")
        refused("Another run of this command copies the data now")
    assert health.checks()["redis"] == "ok"  # nothing was begun
    assert service.apis[0].one(record()).status_code == 202
    refused("has already accepted records on the cluster, for 1 user")


def test_a_move_that_has_ended_is_not_repeated(service: Service) -> None:
    service.use_cluster()
    run()
    assert service.apis[0].one(record(country="newer")).status_code == 202
    with pytest.raises(CommandError, match="was moved before"):
        run()
    drain_all()
    assert names_in_table(of(service.apis[0]))[-1] == "newer"


def test_a_copy_that_is_older_than_the_old_server_is_not_used(service: Service) -> None:
    """The move was killed at its end, and the service was started on the old server again."""
    service.use_cluster()
    run()
    redis.client().set(installation.MOVE, b" ".join([installation.COPIED, *own_client().mget(*FIGURES)]))
    service.go_back()
    assert service.apis[0].one(record(country="back")).status_code == 202
    service.stop()
    service.use_cluster()
    with pytest.raises(CommandError, match="has used the old server since its data was copied"):
        run()


def test_a_copy_during_which_the_old_server_changes_is_not_used(service: Service) -> None:
    service.use_cluster()
    with pytest.raises(MoveRefused, match="has changed during the move"):
        move(client_of(OLD), lambda _: own_client().incr(redis_keys.TOTAL_ACCEPTED))
    assert "a move has not ended" in health.checks()["redis"]


def test_a_move_waits_for_replicas(service: Service) -> None:
    service.use_cluster()
    service.settings.REDIS_WAIT_REPLICAS = 1
    with pytest.raises(CommandError, match=r"fewer than 1 replicas of Redis \(REDIS_WAIT_REPLICAS\)"):
        run()
    assert "a move has not ended" in health.checks()["redis"]
    service.settings.REDIS_WAIT_REPLICAS = 0
    run()
    assert health.checks()["redis"] == "ok"


def test_idempotency_keys_cost_no_second_command_if_nothing_was_moved(service: Service) -> None:
    service.use_cluster()
    api = service.apis[0]
    assert api.one(record(), Idempotency_Key="1").status_code == 202
    for node in service.cluster.primaries:
        node.client().config_resetstat()
    assert api.one(record(), Idempotency_Key="2").status_code == 202
    found = [node.client().info("commandstats") for node in service.cluster.primaries]
    called = {
        name: sum(each.get(f"cmdstat_{name}", {"calls": 0})["calls"] for each in found) for name in ("evalsha", "get")
    }
    assert called == {"evalsha": 1, "get": 1}, "admit.lua itself reads the key"


_ON_SQLITE = """
import sqlite3
from django.core.management import call_command
from django.db import connection
from ingest.moving.move import MoveRefused, _alone

call_command("migrate", verbosity=0)
connection.close()
connection.settings_dict["OPTIONS"]["timeout"] = 0.1
another = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
another.execute("BEGIN IMMEDIATE")
try:
    with _alone():
        raise AssertionError("both copy")
except MoveRefused as refusal:
    assert "Another run of this command" in str(refusal)
another.execute("ROLLBACK")
with _alone():
    pass
"""


def test_a_second_run_is_refused_on_sqlite_too(tmp_path: Path) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
    command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", _ON_SQLITE]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
