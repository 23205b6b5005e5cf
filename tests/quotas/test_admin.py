"""Quotas in the admin: choosing a limit, this month's bar, twelve months, thresholds, and the log."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from config.common import clock
from quotas import services
from quotas.models import UNLIMITED, MonthlyUsage, QuotaLimit, ThresholdEvent
from quotas.period import period_of

ADD = reverse("admin:quotas_quotalimit_add")


@pytest.fixture
def client(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def page_of(limit: QuotaLimit) -> str:
    return reverse("admin:quotas_quotalimit_change", args=(limit.pk,))


@pytest.mark.parametrize(
    ("preset", "number", "limit"), [("-1", "", UNLIMITED), ("0", "", 0), ("100000", "", 100_000), ("other", "7", 7)]
)
def test_an_admin_chooses_a_common_limit_or_enters_a_number(
    client: Client, owner: User, preset: str, number: str, limit: int
) -> None:
    assert client.post(ADD, {"user": owner.pk, "preset": preset, "number": number}).status_code == 302
    assert services.current(owner.pk).limit == limit


def test_the_choice_of_another_limit_needs_a_number(client: Client, owner: User) -> None:
    response = client.post(ADD, {"user": owner.pk, "preset": "other", "number": ""})
    assert "Enter the number of records a month." in response.content.decode()
    page = client.post(ADD, {"user": owner.pk, "preset": "other", "number": "-5"}).content.decode()
    assert "greater than or equal to 0" in page
    assert "Enter the number of records a month." not in page
    assert not QuotaLimit.objects.exists()


def test_a_changed_limit_is_in_force_and_in_the_log(client: Client, owner: User) -> None:
    services.set_limit(owner, 10_000)
    page = page_of(QuotaLimit.objects.get())
    assert client.post(page, {"preset": "other", "number": "12345"}).status_code == 302
    assert services.current(owner.pk).limit == 12_345
    assert LogEntry.objects.latest("pk").change_message == "Records a month: “10000” → “12345”."


def test_after_a_limit_is_deleted_the_default_applies(client: Client, owner: User) -> None:
    services.set_limit(owner, 5)
    page = reverse("admin:quotas_quotalimit_delete", args=(QuotaLimit.objects.get().pk,))
    assert "has the default limit: unlimited." in client.get(page).content.decode()
    assert client.post(page, {"post": "yes"}).status_code == 302
    assert services.current(owner.pk).limit == UNLIMITED
    assert LogEntry.objects.latest("pk").is_deletion()


def test_the_page_shows_month_year_and_thresholds(client: Client, owner: User) -> None:
    services.set_limit(owner, 1000)
    now = clock.now()
    month = period_of(now)
    year_ago = f"{now.year - 1:04}-{now.month:02}"
    for period, used in ((month, 800), (year_ago, 77)):
        MonthlyUsage.objects.create(user=owner, period=period, used=used)
    ThresholdEvent.objects.create(user=owner, period=month, percent=80, used=800, limit=1000)
    said = " ".join(client.get(page_of(QuotaLimit.objects.get())).content.decode().split())
    assert "800 of 1,000 records: 80 %" in said
    assert '<progress max="100" value="80"' in said
    assert said.count("compared with the busiest month") == 12
    assert year_ago not in said
    assert "<strong>80 %</strong> of 1,000 (800 records)" in said
