"""`manage.py quota`."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from quotas.models import QuotaLimit
from quotas.services import set_limit
from tests.conftest import Api, record
from tests.support.books import limit_in_force, this_month
from tests.support.servers.outages import redis_away


def quota(*arguments: str) -> str:
    out = io.StringIO()
    call_command("quota", *arguments, stdout=out)
    return out.getvalue().strip()


def test_it_shows_usage_and_limit(api: Api, owner: User) -> None:
    assert quota("owner") == f"owner: 0 of unlimited records in {this_month()}"
    set_limit(owner, 1000)
    assert api.batch([record()] * 3).status_code == 202
    assert quota("owner") == f"owner: 3 of 1000 records in {this_month()}"


@pytest.mark.parametrize(("given", "shown", "status"), [("2", "2", 202), ("0", "0", 429), ("-1", "unlimited", 202)])
def test_it_sets_a_limit_that_applies_immediately(api: Api, owner: User, given: str, shown: str, status: int) -> None:
    set_limit(owner, 1)
    assert quota("owner", f"--limit={given}") == f"owner: 0 of {shown} records in {this_month()}"
    assert api.one(record()).status_code == status
    assert QuotaLimit.objects.get().records_per_month == int(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "There is no user “nobody”."),
        (("nobody", "--limit", "5"), "There is no user “nobody”."),
        (("owner", "--limit=-2"), "greater than or equal to -1"),
        (("owner", f"--limit={2**53}"), "less than or equal to 9007199254740991"),
        (("owner", "--limit", "many"), "invalid int value: 'many'"),
        (("owner", "--limit", "1.5"), "invalid int value: '1.5'"),
        ((), "the following arguments are required: username"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(owner: User, arguments: tuple[Any, ...], message: str) -> None:
    set_limit(owner, 7)
    with pytest.raises(CommandError, match=message):
        quota(*arguments)
    assert (QuotaLimit.objects.get().records_per_month, limit_in_force(owner)) == (7, 7)


def test_without_redis_it_reports_that_and_changes_nothing(owner: User) -> None:
    set_limit(owner, 7)
    with redis_away():
        with pytest.raises(CommandError, match="Redis does not answer"):
            quota("owner", "--limit", "9")
        with pytest.raises(CommandError):
            quota("owner")
    assert QuotaLimit.objects.get().records_per_month == 7
    assert quota("owner").startswith("owner: 0 of 7 ")
