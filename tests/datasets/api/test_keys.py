"""Keys over the management API: when they expire."""

import json

from datasets.models import ApiKey
from tests.datasets.api.conftest import Management, error_of

# Texts that DRF's own field accepts, each with our error.
WRONG_TIMES = {
    "2999-01-31": "The time of day is missing.",
    "2999-01-31T00:00:00": "An offset is missing: Z, or one like +02:00.",
    "2999-01-31 00:00:00Z": "A T must stand between date and time, not a space.",
    "2999-01-31T00:00Z": "The seconds are missing.",
    "2999-01-31T00:00:00+0200": "The offset needs a colon, like +02:00.",
    "2999-02-30T00:00:00Z": "There is no date 2999-02-30.",
    "0001-01-01T00:00:00+01:00": "Its moment, in whole microseconds, must lie",
    "32472144000": "A Unix time is not accepted",
    "": "It is empty.",
    "\ud800": "",
}


def test_an_expiry_is_as_strict_as_a_timestamp(client: Management) -> None:
    for wrong, why in WRONG_TIMES.items():
        answer = client.call("POST", "/keys/shop", {"name": "a", "expires_at": wrong})
        assert error_of(answer) == (400, "Invalid request", "invalid_request"), wrong
        (problem,) = answer.json()["errors"]
        assert problem["field"] == "expires_at"
        assert problem["detail"].startswith(f"Send a text like 2026-06-10T10:58:00Z. {why}"), wrong
    others: list[object] = [32472144000, 1.5, True, [], {}]
    for value in others:
        (problem,) = client.call("POST", "/keys/shop", {"name": "a", "expires_at": value}).json()["errors"]
        assert problem == {"field": "expires_at", "detail": "Send a text like 2026-06-10T10:58:00Z."}, value
    assert not ApiKey.objects.exists()
    for right in ("2999-01-31T00:00:00Z", "2999-01-31t01:00:00.000+01:00", None):
        made = client.ok("POST", "/keys/shop", {"name": "a", "expires_at": right})
        assert made["expires_at"] == (right and "2999-01-31T00:00:00Z"), right


def test_the_end_of_a_grace_period_is_as_strict_as_a_timestamp(client: Management) -> None:
    path = f"/datasets/shop/{client.ok('POST', '/datasets/shop', {'name': 'Orders'})['id']}/schema"
    for wrong, why in WRONG_TIMES.items():
        answer = client.call("POST", path, {"fields": {"a": "string"}, "previous_valid_until": wrong})
        (problem,) = answer.json()["errors"]
        assert problem["field"] == "previous_valid_until"
        assert why in problem["detail"], json.dumps(wrong)
