"""Processes that are killed move the data of one server to a cluster. Clients and tables see no difference."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.cache import cache as django_cache
from django.core.management import CommandError, call_command

from config.common import clock, redis
from config.common.cluster.key_tags import is_cluster
from config.common.env import BASE_DIR
from datasets import installation, services, tags
from datasets.contracts import cache, old_form
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from datasets.queries import figures
from datasets.schemas.fields import Field
from ingest import tasks
from ingest.models import QuarantinedEntry
from ingest.monitoring import health, heartbeat, metrics, refusals, statistics
from ingest.queue import admission, redis_keys, seeding, slots, turns
from ingest.storing import quarantine, untidy, upkeep
from ingest.storing.drain import drain
from ingest.storing.ledger import balance
from quotas import services as quotas
from quotas.models import MonthlyUsage
from tests.conftest import FIELDS, Api, record
from tests.support.entries import enqueue, names_in_table, send, status
from tests.support.servers import sentinels
from tests.support.servers.cluster import ValkeyCluster, cluster, use
from tests.support.servers.outages import everything_in, own_client

OLD = os.environ["REDIS_URL"]
FIGURES = (redis_keys.GENERATION, redis_keys.TOTAL_ACCEPTED, redis_keys.TOTAL_BYTES)
WIDER = [*FIELDS, Field("source", "string", optional=True), Field("more", "string")]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@dataclass
class Service:
    """A service on one server. It has done everything that leaves data in Redis."""

    settings: Any
    cluster: ValkeyCluster
    apis: list[Api] = field(default_factory=list)  # two owners
    archived: Api | None = None
    revoked: Api | None = None
    keyed: list[tuple[Api, str, httpx.Response]] = field(default_factory=list)

    def send_keyed(self, api: Api, name: str) -> None:
        self.keyed.append((api, name, api.one(record(country=name), Idempotency_Key=name)))

    def stop(self) -> None:
        """Do what the end of the service's processes does: close connections, and forget what they remember."""
        sentinels.forget_connections()
        if not is_cluster():
            redis.client().connection_pool.disconnect()
            own_client().client_kill_filter(_type="normal", skipme=True)
        cache.forget_all()
        for known in (admission._generations, tags._of_projects, tags._of_datasets):
            known.clear()
        admission._shared_keys.cache_clear()
        slots.free_slots.clear()
        seeding._BeforeMove.ends = math.inf

    def run_killed(self, step: int, *end: int) -> str:
        """Run the move in processes that are killed. Return what they print."""
        environment = {
            **os.environ,
            "REDIS_URL": self.cluster.url,
            "DATABASE_URL": database_url(),
            "CELERY_BROKER_URL": OLD,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": str(BASE_DIR),
        }
        command = [sys.executable, "tests/ingest/moving/killed.py", OLD, str(step), *map(str, end)]
        done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def use_cluster(self) -> None:
        use(self.settings, self.cluster.url)

    def go_back(self) -> None:
        """Stop the service on the cluster, and start it on the old server."""
        self.stop()
        self.use_old()

    def use_old(self) -> None:
        self.settings.REDIS_IS_CLUSTER = False
        sentinels.use(self.settings, OLD, CONNECTION_FACTORY="django_redis.pool.ConnectionFactory")


def database_url() -> str:
    name = django_settings.DATABASES["default"]["NAME"]
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


def api_of(project: Project, name: str, **key: Any) -> Api:
    dataset = services.create_dataset(project=project, name=name, fields=FIELDS)
    return Api(issue_token(services.create_key(project=project, name=name, **key)), dataset)


def of(api: Api) -> Dataset:
    assert api.dataset is not None
    return api.dataset


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
    _leave_the_rest(found, projects)
    found.stop()
    yield found
    found.use_old()


def _leave_the_rest(service: Service, projects: list[Project]) -> None:
    first = projects[0]
    service.revoked = Api(issue_token(key := services.create_key(project=first, name="revoked")), of(service.apis[0]))
    assert service.revoked.one(record(country="revoked")).status_code == 202
    services.revoke_key(key)
    service.archived = api_of(projects[1], "Archived")
    service.send_keyed(service.archived, "archived")
    of(service.archived).is_archived = True
    services.save_dataset(of(service.archived), changed=["is_archived"])
    wide = of(service.apis[1])
    services.save_dataset(wide, fields=WIDER, previous_valid_until=clock.now() + timedelta(hours=1))
    assert service.apis[1].one(record(country="grace")).status_code == 202
    shop = api_of(first, "Shop", origins=["https://shop.example.com"])
    assert shop.one(record(), Origin="https://shop.example.com").status_code == 202
    assert Api("no key", of(shop)).one(record()).status_code == 401
    figures.note(first.pk, figures.EndedQuery(clock.milliseconds(), of(shop).pk, 2.0, "someone"))
    django_cache.set("failed_tokens:127.0.0.1", [1.0], 600)


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
    service.stop()
    service.use_cluster()
    run()
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
