"""What the admin and the metrics show about queries."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from datasets import services
from datasets.models import Project
from datasets.queries import figures
from datasets.queries.figures import EndedQuery
from tests.conftest import Api
from tests.datasets.api.queries.conftest import Queries
from tests.support.servers.outages import redis_away


def metrics() -> dict[str, float]:
    lines = [line for line in Api(None).request("GET", "/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.partition(" ") for line in lines)}


def test_metrics_count_queries_their_time_and_refusals(queries: Queries) -> None:
    queries.ok({})
    queries.ok({})
    assert queries.ask({"limit": 0}).status_code == 400
    found = metrics()
    assert found["ingest_queries_total"] == 2
    assert found['ingest_refused_queries_total{code="invalid_query"}'] == 1
    assert found["ingest_query_seconds_total"] > 0


def test_the_start_page_shows_slow_queries(
    queries: Queries, alice: User, shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SLOW_SECONDS", 0.0)
    queries.ok({})
    page = Client()
    page.force_login(alice)
    shown = page.get("/admin/").content.decode()
    assert "Slow queries" in shown
    assert f"dataset {queries.dataset.pk}" in shown
    assert "alice, token “write of alice”" in shown

    stranger = User.objects.create_user("stranger", is_staff=True)
    services.create_project(slug="other", owner=stranger)
    page.force_login(stranger)
    assert "Slow queries" not in page.get("/admin/").content.decode()


def test_a_quick_query_is_not_shown(queries: Queries, shop: Project) -> None:
    figures.note(shop.pk, EndedQuery(at=0, dataset_id=1, seconds=0.5, who="alice"))
    assert figures.slow([shop.pk]) == {shop.pk: []}


def test_only_the_latest_slow_queries_are_kept(queries: Queries, shop: Project) -> None:
    for number in range(15):
        figures.note(shop.pk, EndedQuery(at=2**42 + number, dataset_id=number, seconds=3.0, who="alice"))
    assert [each.dataset_id for each in figures.slow([shop.pk])[shop.pk]] == list(range(14, 4, -1))


def test_a_query_is_answered_without_redis(queries: Queries) -> None:
    queries.ok({})
    with redis_away():
        assert queries.ask({}).status_code == 200
