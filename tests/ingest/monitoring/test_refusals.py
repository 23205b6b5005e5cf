"""The refusal log: what it keeps about refused requests, what it leaves out, and its limits."""

import json
import logging
import time
from typing import Any

import pytest

from config.common import clock, loop, redis
from datasets import services
from datasets.contracts.keys import issue_token
from datasets.models import ApiKey, Dataset, Project
from ingest import tasks
from ingest.monitoring import refusals
from ingest.monitoring.refusals import MAX_KEPT_BYTES, Refusal
from ingest.queue import redis_keys
from tests.conftest import Api, record
from tests.support.servers.outages import redis_away


@pytest.fixture(autouse=True)
def full_allowance() -> None:
    """Reset the rate limits before each test."""
    refusals.forget_allowances()


def kept(project: Project) -> list[Refusal]:
    return refusals.latest(project.pk)


def test_entry_has_key_time_reason_and_record(api: Api, project: Project, key: ApiKey, dataset: Dataset) -> None:
    began = time.time() * 1000 - 1
    bad = record(amount="12.5")
    answer = api.batch([record(), bad], X_Request_Id="trace-1")
    (refusal,) = kept(project)
    assert answer.status_code == refusal.status == 400
    assert (refusal.trace_id, refusal.dataset_id, refusal.token_id) == ("trace-1", dataset.pk, key.token_id.hex)
    assert (refusal.code, refusal.error) == ("invalid_field", "Invalid number field: amount")
    assert (refusal.field, refusal.index, refusal.path) == ("amount", 1, f"/datasets/{dataset.pk}/batch")
    assert began <= refusal.at <= time.time() * 1000
    assert (json.loads(refusal.body), refusal.form, refusal.is_cut) == (bad, "single", False)


@pytest.mark.parametrize(
    ("path", "content_type", "body", "form"),
    [
        ("", "application/json", b'{"a', "single"),
        ("/batch", "application/json", b"[{]", "batch"),
        ("/batch", "application/x-ndjson", b'{"a":1}\n{', "lines"),
        ("/validate", "application/json", b" [{]", "batch"),
        ("/validate", "application/json", b"{", "single"),
    ],
)
def test_malformed_body_is_kept_as_it_was_sent(
    api: Api, project: Project, dataset: Dataset, path: str, content_type: str, body: bytes, form: str
) -> None:
    assert api.post(f"/datasets/{dataset.pk}{path}", body, content_type).status_code == 400
    (refusal,) = kept(project)
    assert (refusal.code, refusal.body, refusal.form) == ("invalid_json", body, form)


def test_refusal_without_a_body_is_kept_too(api: Api, project: Project) -> None:
    assert api.post("/datasets/999999999", record()).status_code == 404
    assert api.post("/datasets", record()).status_code == 404
    assert api.post("/datasets/x", record()).status_code == 400
    seen = [(each.code, each.dataset_id, each.body) for each in kept(project)]
    assert seen == [
        ("invalid_dataset_id", 0, b""),
        ("dataset_schema_not_found", 0, b""),
        ("dataset_schema_not_found", 999999999, b""),
    ]


def test_entry_names_the_default_dataset(api: Api, project: Project, dataset: Dataset) -> None:
    project.default_dataset = dataset
    project.save()
    assert api.post("/datasets", "{").status_code == 400
    assert kept(project)[0].dataset_id == dataset.pk


def test_revoked_key_is_kept_and_forged_key_is_only_counted(api: Api, project: Project, key: ApiKey) -> None:
    assert Api((api.token or "") + "x", api.dataset).one(record()).status_code == 401
    assert Api(None, api.dataset).one(record()).status_code == 401
    assert kept(project) == []
    assert refusals.projects() == []
    services.revoke_key(key)
    assert api.one(record()).status_code == 401
    assert [each.code for each in kept(project)] == ["invalid_api_key"]


def test_no_token_and_no_secret_is_kept(api: Api, project: Project) -> None:
    secret, token = "hunter2hunter2", api.token or ""
    context = {"Password": secret, "user_token": f'a\\"{secret}', "note": f"Bearer {token}", "plan": "pro"}
    several = {"passwords": [1, secret], "credentials": {"pin": secret}, "tokens": 5}
    assert api.one(record(context={**context, **several}, more=f"pat_{secret}")).status_code == 400
    # A secret is removed even if the body is cut inside it.
    long = {"pad": "x" * (MAX_KEPT_BYTES - 60), "api_key": secret * 20}
    assert api.one(json.dumps({**long, "timestamp": "?"})).status_code == 400
    assert api.one(json.dumps({"pad": "x" * (MAX_KEPT_BYTES - 60), "note": token})).status_code == 400
    raw = b"".join(redis.client().lrange(redis_keys.refusal_log(project.pk), 0, -1))
    assert secret.encode() not in raw
    assert token.encode()[:30] not in raw
    first = json.loads(kept(project)[-1].body)
    assert first["context"]["plan"] == "pro"
    assert first["context"]["Password"] == first["context"]["passwords"] == "[removed]"
    assert first["context"]["tokens"] == 5


def test_key_in_the_wrong_place_is_not_kept(api: Api, project: Project, dataset: Dataset) -> None:
    token = api.token or ""
    assert api.post(f"/datasets/{token}", "{}").status_code == 400
    assert api.post("/datasets", "{}", X_Loguro_Dataset_Id=token).status_code == 400
    assert api.post(f"/datasets/{dataset.pk}", "{}", content_type=f"x/{token[:150]}").status_code == 415
    assert api.one(record(**{token: 1})).status_code == 400
    assert api.one(record(**{"pat_" + "x" * 40: 1})).status_code == 400
    assert [each.field for each in kept(project)][:2] == ["[token]", "[token]"]
    raw = b"".join(redis.client().lrange(redis_keys.refusal_log(project.pk), 0, -1))
    assert token.encode()[:30] not in raw
    assert b"pat_x" not in raw


def test_size_of_an_entry_is_limited(api: Api, project: Project) -> None:
    name = "é" * 3000
    assert api.one(json.dumps({name: "ü" * 1_000_000, "x" * 5000: 1}), X_Request_Id="t" * 128).status_code == 400
    assert api.one(b"\xff" * 100_000).status_code == 400
    (invalid, extra) = kept(project)
    assert len(invalid.body) <= MAX_KEPT_BYTES
    assert extra.is_cut
    for packed in redis.client().lrange(redis_keys.refusal_log(project.pk), 0, -1):
        assert len(packed) < 4096


def test_log_keeps_the_latest_or_nothing_if_switched_off(api: Api, project: Project, settings: Any) -> None:
    settings.REFUSAL_LOG_ENTRIES = 3
    for number in range(5):
        assert api.one("{", X_Request_Id=f"t{number}").status_code == 400
    assert [each.trace_id for each in kept(project)] == ["t4", "t3", "t2"]
    assert 0 < redis.client().ttl(redis_keys.refusal_log(project.pk)) <= 7 * 24 * 3600
    redis.client().flushall()
    settings.REFUSAL_LOG_ENTRIES = 0
    assert api.one("{").status_code == 400
    assert list(redis.client().scan_iter("refusals:*")) == []


def test_flood_is_kept_in_part_and_counted_in_full(
    api: Api, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ingest")
    began = time.monotonic()
    sent = 0
    while len(kept(project)) < 2 or not kept(project)[0].skipped:  # until an entry is kept after others were skipped
        assert api.one("{").status_code == 400
        sent += 1
        assert time.monotonic() - began < 60
    log = kept(project)
    assert len(log) <= 20 + 5 * (time.monotonic() - began) + 1
    assert sum(each.skipped for each in log) + len(log) == sent
    assert len([line for line in caplog.messages if line.startswith("refused: 400 invalid_json")]) == sent


def test_flood_of_one_project_does_not_displace_another(api: Api, project: Project, dataset: Dataset) -> None:
    other = services.create_project(slug="other", owner=project.owner)
    neighbor = Api(issue_token(services.create_key(project=other, name="k")))
    for _ in range(100):
        api.one("{")
    assert neighbor.post("/datasets", "{").status_code == 404
    assert len(kept(other)) == 1
    assert refusals.projects() == [other.pk, project.pk]


def test_number_of_logs_is_limited(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"error": "e", "code": "c"}
    sent = refusals.Sent("t", "k", "/", 1, b"{}", "single")
    monkeypatch.setattr(refusals, "_MAX_LOGS", 3)
    monkeypatch.setattr(refusals, "_all_entries", refusals._Allowance(1000, 1000))
    for project_id in range(1, 6):
        loop.run(refusals.keep(project_id, said, 400, lambda: sent))
        before = int(time.time() * 1000)
        while int(time.time() * 1000) == before:  # logs are ordered by the millisecond
            pass
    assert refusals.projects() == [5, 4, 3]
    assert len(list(redis.client().scan_iter("refusals:log:*"))) == 3


def test_refusal_is_deleted_after_a_week_even_if_others_follow(
    api: Api, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.client().lpush(redis_keys.refusal_log(project.pk), b"an entry that cannot be read has no known age")
    refused_at = clock.milliseconds()
    for day in (0, 3, 6):
        monkeypatch.setattr(clock, "milliseconds", lambda day=day: refused_at + day * 24 * 3600 * 1000)
        api.one("{", X_Request_Id=f"day-{day}")
    monkeypatch.setattr(clock, "milliseconds", lambda: refused_at + 8 * 24 * 3600 * 1000)
    assert [each.trace_id for each in kept(project)] == ["day-6", "day-3"]
    tasks.sweep()
    monkeypatch.undo()
    assert redis.client().llen(redis_keys.refusal_log(project.pk)) == 2
    assert [each.trace_id for each in kept(project)] == ["day-6", "day-3"]


def test_client_gets_its_answer_if_the_log_cannot_be_written(api: Api, project: Project) -> None:
    redis.client().set(redis_keys.refusal_log(project.pk), "of another kind")
    assert api.one("{").status_code == 400
    redis.client().flushall()
    with redis_away():
        assert api.one("{").status_code in (400, 503)
    assert api.one("{").status_code == 400
    assert kept(project)[0].code == "invalid_json"


def test_each_refusal_is_logged_with_its_trace_id(
    api: Api, project: Project, dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ingest")
    api.one("{", X_Request_Id="trace-7")
    Api(None, api.dataset).one("{", X_Request_Id="trace-8")
    where = f"project {project.pk}, dataset {dataset.pk}"
    assert f"refused: 400 invalid_json, {where}, trace ID trace-7" in caplog.messages
    assert "refused: 401 missing_api_key, project unknown, dataset none, trace ID trace-8" in caplog.messages
    assert (api.token or "x") not in caplog.text


def test_log_line_counts_the_lines_left_out_before_it(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "ingest")
    lines = refusals._Allowance(per_second=0, burst=1)
    monkeypatch.setattr(refusals, "_lines", lines)
    for number in range(4):
        api.one("{", X_Request_Id=f"t{number}")
    lines.left = 1
    api.one("{", X_Request_Id="t4")
    assert len(caplog.messages) == 2
    assert caplog.messages[0].endswith("trace ID t0")
    assert caplog.messages[1].endswith("trace ID t4; 3 refusals before it are not logged")


def test_unreadable_entries_of_another_release_are_skipped(api: Api, project: Project) -> None:
    redis.client().lpush(redis_keys.refusal_log(project.pk), b"\x00nonsense", b"\xc1", b"")
    api.one("{")
    assert len(kept(project)) == 1
