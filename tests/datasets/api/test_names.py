"""Names are visible, and do not change the appearance of a page."""

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from datasets import personal_tokens, services
from datasets.models import Project
from datasets.names import check_name
from tests.datasets.api.conftest import Management

INVISIBLE = [
    "\u200b",
    "\u202e",
    "\x7f",
    "\ufeff",
    "\u0345",
    "a\nb",
    "a\x85b",
    "a\u2028b",
    "invoice\u202egpj",
    "a\u2066b",
    "a\ud800",
]
SEEN = ["Orders", "Zamówienia 2026", "注文", "طلبات", "👩‍👩‍👧", "می\u200cخواهم", "=1+1", "{{7*7}}", "?"]


@pytest.mark.parametrize("name", INVISIBLE)
def test_an_invisible_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"invisible character|no visible character"):
        check_name(name)


@pytest.mark.parametrize("name", SEEN)
def test_a_name_of_any_language_is_accepted(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["\u200b", "a\u202eb", "a\nb"])
def test_no_object_gets_an_invisible_name(client: Management, shop: Project, alice: User, name: str) -> None:
    path = f"/datasets/{shop.slug}"
    dataset = client.ok("POST", path, {"name": "Orders"})["id"]
    key = client.ok("POST", f"/keys/{shop.slug}", {"name": "till"})["id"]
    answers = [
        client.call("POST", path, {"name": name}),
        client.call("PATCH", f"{path}/{dataset}", {"name": name}),
        client.call("POST", f"/keys/{shop.slug}", {"name": name}),
        client.call("PATCH", f"/keys/{shop.slug}/{key}", {"name": name}),
    ]
    assert [(each.status_code, each.json()["errors"][0]["field"]) for each in answers] == [(400, "name")] * 4
    for create in (
        lambda: services.create_project(slug="another", owner=alice, name=name),
        lambda: services.create_dataset(project=shop, name=name),
        lambda: services.create_key(project=shop, name=name),
        lambda: personal_tokens.create(user=alice, name=name),
    ):
        with pytest.raises(ValidationError):
            create()
