"""A service whose data is moved: what it leaves in Redis, and how it is stopped and started."""

import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings as django_settings
from django.core.cache import cache as django_cache

from config.common import clock, redis
from config.common.cluster.key_tags import is_cluster
from config.common.env import BASE_DIR
from datasets import services, tags
from datasets.contracts import cache
from datasets.contracts.keys import issue_token
from datasets.models import Dataset, Project
from datasets.queries import figures
from datasets.schemas.fields import Field
from ingest.queue import admission, seeding, slots
from tests.conftest import FIELDS, Api, record
from tests.support.servers import sentinels
from tests.support.servers.cluster import ValkeyCluster, use
from tests.support.servers.outages import own_client

OLD = os.environ["REDIS_URL"]
WIDER = [*FIELDS, Field("source", "string", optional=True), Field("more", "string")]


@dataclass
class Service:
    """A service on one server. It has done everything that leaves data in Redis."""

    settings: Any
    cluster: ValkeyCluster
    apis: list[Api] = field(default_factory=list)  # clients of two owners
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


def leave_the_rest(service: Service, projects: list[Project]) -> None:
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
