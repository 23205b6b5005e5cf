"""Every form of the admin has fields, and does what it says."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client, RequestFactory
from django.urls import reverse


@pytest.fixture
def superuser(transactional_db: None) -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def client(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


def test_every_page_that_adds_an_object_has_fields(client: Client, superuser: User) -> None:
    admin.autodiscover()
    request = RequestFactory().get("/admin/")
    request.user = superuser
    asked = []
    for model, model_admin in admin.site._registry.items():
        if model_admin.has_add_permission(request):
            asked.append(model)
            path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add")
            page = client.get(path).content.decode()
            form = page[page.index(f'id="{model._meta.model_name}_form"') :].partition("</form>")[0]
            assert re.findall(r'<(?:input|select|textarea)[^>]* name="(?!csrfmiddlewaretoken|_)', form), path
    assert {User, Group} < set(asked)


def test_a_superuser_adds_a_user_who_can_log_in(client: Client) -> None:
    path = reverse("admin:auth_user_add")
    assert 'name="password2"' in client.get(path).content.decode()
    secret = "a long password for bob"
    posted = {"username": "bob", "usable_password": "true", "password1": secret, "password2": secret}
    assert client.post(path, posted).status_code == 302
    assert User.objects.get(username="bob").check_password(secret)
