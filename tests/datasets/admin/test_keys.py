"""The pages of API keys: revoke several in one action, and send with one."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from datasets import services
from datasets.contracts import revisions
from datasets.models import ApiKey
from tests.conftest import FIELDS
from tests.support.servers.outages import own_client


@contextmanager
def writable(key: str) -> Iterator[None]:
    """Make Redis refuse every command that uses another key."""
    admin = own_client()
    admin.execute_command("ACL", "SETUSER", "default", "resetkeys", f"~{key}")
    try:
        yield
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "allkeys")


def revoke(client: Client, keys: list[ApiKey]) -> str:
    """Revoke `keys` on the page that lists all keys. Return the page that is shown afterwards."""
    chosen = {"action": "revoke", "_selected_action": [key.pk for key in keys], "confirmed": "yes"}
    return client.post(reverse("admin:datasets_apikey_changelist"), chosen, follow=True).content.decode()


def test_keys_of_several_projects_are_revoked_together_or_not_at_all(owner: User, key: ApiKey) -> None:
    User.objects.update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    other = services.create_key(project=services.create_project(slug="other", owner=owner), name="other")

    # Redis lets the action announce the change of one project only. For one of these projects, the action stops after
    # it has changed the other project.
    for project in (key.project, other.project):
        with writable(revisions.key(project.pk)):
            assert "Redis does not answer, so the change could not take effect" in revoke(client, [key, other])
        assert not ApiKey.objects.exclude(revoked_at=None).exists()

    assert "Revoked:" in revoke(client, [key, other])
    assert not ApiKey.objects.filter(revoked_at=None).exists()


def test_the_page_of_a_key_names_ten_datasets_and_counts_the_others(owner: User, key: ApiKey) -> None:
    User.objects.update(is_staff=True)
    for number in range(13):
        services.create_dataset(project=key.project, name=f"Dataset {number}", fields=FIELDS)
    client = Client()
    client.force_login(User.objects.get(pk=owner.pk))
    page = client.get(reverse("admin:datasets_apikey_change", args=(key.pk,))).content.decode()
    assert "Dataset 10</a>" in page
    assert "Dataset 11" not in page
    others = reverse("admin:datasets_dataset_changelist") + f"?project__id__exact={key.project_id}"
    assert f'<a href="{others}">2 more datasets of the project</a>' in page
    # The page after a new key shows its token, so the form offers only Save.
    assert 'name="_continue"' in page
    page = client.get(reverse("admin:datasets_apikey_add")).content.decode()
    assert 'name="_save"' in page
    assert 'name="_continue"' not in page
    assert 'name="_addanother"' not in page
