"""Example data of a service that has been used for some time."""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from axes.models import AccessAttempt
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType

from config.common import clock, redis
from datasets import personal_tokens, services
from datasets.contracts import old_form
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, PersonalAccessToken, Project
from datasets.schemas.fields import Field
from ingest.models import QuarantinedEntry
from ingest.monitoring import refusals, statistics
from ingest.queue import redis_keys
from quotas import services as quotas
from quotas.models import MonthlyUsage, ThresholdEvent
from quotas.period import period_of
from tests.conftest import FIELDS, Api, record

PASSWORD = "a long password for tests"


@dataclass
class Scene:
    """The users and objects of the example data."""

    admin: User
    alice: User
    project: Project
    dataset: Dataset
    visits: Dataset  # in a grace period
    payments: Dataset  # has fields of many types
    key: ApiKey
    token: PersonalAccessToken
    entry: QuarantinedEntry
    limit_id: int
    refusal_id: str


def furnish() -> Scene:
    """Create the example data."""
    admin = User.objects.create_superuser("admin", "admin@example.com", PASSWORD)
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD, is_staff=True)
    shop = services.create_project(slug="shop", owner=alice, name="Web shop")
    billing = services.create_project(slug="billing", owner=admin, name="Billing")
    services.create_project(slug="empty", owner=alice, name="Just begun")
    fields = [Field(field.name, field.type, about) for field, about in zip(FIELDS, _ABOUT, strict=True)]
    orders = services.create_dataset(project=shop, name="Orders", fields=fields[:4])
    services.save_dataset(orders, fields=fields, author=alice)
    services.save_dataset(orders, fields=[*fields[1:], Field("source", "string", "web or app")], author=admin)
    visits = services.create_dataset(project=shop, name="Visits", fields=[Field("page", "string")])
    payments = services.create_dataset(project=shop, name="Payments", fields=_EACH_KIND)
    invoices = services.create_dataset(project=billing, name="Invoices", fields=[Field("total", "number")])
    key = services.create_key(project=shop, name="checkout service")
    origins = ["https://shop.example.com", "http://www.shop.example.com", "http://localhost:3000"]
    services.create_key(project=shop, name="shop pages", origins=origins)
    services.create_key(project=shop, name="analytics", expires_at=clock.now() + timedelta(days=20))
    services.revoke_key(services.create_key(project=shop, name="old laptop"))
    _grace(visits, alice, key)
    token, _ = personal_tokens.create(user=alice, name="deployment", expires_at=clock.now() + timedelta(days=80))
    personal_tokens.create(user=alice, name="dashboard", scope="read")
    _traffic(orders, 400)
    _traffic(invoices, 90)
    _refusals(shop)
    refusal_id = _refused(orders, key)
    quotas.set_limit(alice, 100_000)
    _usage(alice)
    entry = _quarantined(orders)
    Group.objects.create(name="project creators")
    AccessAttempt.objects.create(username="alice", ip_address="192.0.2.1", failures_since_start=3, user_agent="curl")
    for user, what in ((alice, "Schema: added signup_at."), (admin, "Schema: added source; removed country.")):
        kind = ContentType.objects.get_for_model(Dataset)
        LogEntry.objects.create(
            user=user,
            content_type=kind,
            object_id=str(orders.pk),
            object_repr="Orders",
            action_flag=CHANGE,
            change_message=what,
        )
    limit: Any = alice
    return Scene(admin, alice, shop, orders, visits, payments, key, token, entry, limit.dataset_quota.pk, refusal_id)


_ABOUT = ("ISO 3166 code", "free or pro", "in EUR", "", "when the customer came")


def _grace(dataset: Dataset, author: User, *keys: ApiKey) -> None:
    """Publish a version with a grace period. In this period, each key has sent records of the previous version."""
    fields = [Field("page", "string"), Field("ms", "number")]
    until = clock.now() + timedelta(days=7)
    services.save_dataset(dataset, fields=fields, author=author, previous_valid_until=until)
    version = dataset.latest_version()
    assert version is not None
    counts = {f"records:{key.pk}": 12_345 for key in keys} | {f"last:{key.pk}": clock.milliseconds() for key in keys}
    redis.client().hset(old_form.key(dataset.pk, version.pk), mapping=counts)


_EACH_KIND = [
    Field("price", "decimal(12,2)", "with taxes", unit="EUR", minimum="0"),
    Field("state", "enum", values=("open", "paid")),
    Field("coupon", "string", optional=True, max_length=20, pattern="^[A-Z0-9-]+$"),
    Field("lines", "json"),
]


def _traffic(dataset: Dataset, most: int) -> None:
    dice, now = random.Random(dataset.pk), statistics.this_hour()
    counts = {hour: dice.randrange(most // 4, most) for hour in range(now - 40 * 24, now + 1) if dice.random() > 0.1}
    redis.client().hset(redis_keys.stored_by_hour(dataset.pk), mapping=counts)


def _refusals(project: Project) -> None:
    now = statistics.this_hour()
    counts = {f"{now - 1}:invalid_field": 31, f"{now}:missing_field": 12, f"{now - 2}:invalid_api_key": 4}
    redis.client().hset(redis_keys.refused_by_hour(project.pk), mapping=counts)


def _refused(dataset: Dataset, key: ApiKey) -> str:
    """Send requests that are refused. Return the id of the latest refusal whose body Try it can use."""
    refusals.forget_allowances()
    api = Api(issue_token(key), dataset)
    api.batch(b'{"timestamp": "2026-06-10T10:58:00Z"}\n{"timestamp": "2026-06-10T10:58:0')
    api.post("/datasets/424242", record(), X_Request_Id="checkout-17")
    api.one(b"\xff\xfe" + b"x" * 4000)
    api.one(record(amount="12.5", country=..., source="web"))
    api.batch([record(country=..., source="web"), record(country=..., source="web", coupon="SUMMER-2026")])
    return refusals.latest(dataset.project_id)[0].id


def _usage(user: User) -> None:
    now = clock.now()
    for back in range(11):
        year, month = divmod(now.year * 12 + now.month - 1 - back, 12)
        MonthlyUsage.objects.create(user=user, period=f"{year:04}-{month + 1:02}", used=81_234 - back * 6_400)
    ThresholdEvent.objects.create(user=user, period=period_of(now), percent=80, used=80_010, limit=100_000)


def _quarantined(dataset: Dataset) -> QuarantinedEntry:
    version = dataset.versions.order_by("-number")[0]
    return QuarantinedEntry.objects.create(
        dataset=dataset,
        generation="feedf00d",
        position=1,
        origin="1764000000000-0",
        count=1,
        body=b'{"timestamp": "2026-06-10T10:58:00Z", "context": {"source": "app"}, "plan": "pro", "amount": "12.5"}',
        format="o",
        schema_version_id=version.pk,
        trace_id="req_123",
        reason="the body does not match its schema version: Expected `float`, got `str` - at `$[0].amount`",
    )
