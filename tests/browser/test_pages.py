"""The list of pages that other tests use is complete."""

from django.contrib.auth.models import User
from django.urls import resolve

from tests.browser.support.pages import addresses
from tests.browser.support.scene import furnish
from tests.ingest.admin.test_tenancy import Tenant, addresses_of, as_user, lists

# Pages whose names end like this need not be in the list. Each history page looks like the one in the list, and the
# login page sends a logged-in user to the start page.
_ALIKE = ("_history", "login")


def test_every_page_is_in_the_list(transactional_db: None) -> None:
    listed = {resolve(path.partition("?")[0]).url_name for path in addresses(furnish()).values()}
    tenant, client, asked = Tenant("other"), as_user(User.objects.get(username="admin")), 0
    for path in [*(path for _, path in addresses_of(tenant)), *lists()]:
        name = resolve(path).url_name
        if name is None or name in listed or name.endswith(_ALIKE):
            continue
        asked += 1
        response = client.get(path)
        assert response.status_code != 200 or response.streaming or b"<html" not in response.content, (
            f"{path} is a page: add {name} to tests.browser.support.pages"
        )
    assert asked > 10
