"""Send values that no form would send to every address of the admin. The answer must never be a 5xx."""

import json
import logging
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import quote

from django.contrib.auth.models import User
from django.test import Client

from tests.ingest.admin.test_tenancy import Tenant, addresses_of, admin_patterns, lists

HUGE = "9" * 23
ENDLESS = "9" * 5000
_DEEP = "[" * 100_000

QUERIES = [
    *("project=abc", f"project={HUGE}", f"project={ENDLESS}", "project=%00", "project=-1", "project=1.5"),
    *("pk__regex=[", "name__regex=(", "id__iregex=%5C", "created_at__year=99999", "action_time__year=-1"),
    *("q=%00", f"q={'x' * 5000}", "q=%FF", "p=abc", f"p={HUGE}", "page=abc", "page=-1", f"page={HUGE}", "page=0"),
    *("o=abc", "o=99.99", "o=-0.x", f"o={HUGE}", "all=", "e=1", "_popup=1", "_to_field=password"),
    *("project__id__exact=abc", f"project__id__exact={HUGE}", f"dataset__project__id__exact={HUGE}"),
    *("id__in=a,b", f"id__in={HUGE}", f"id={HUGE}", f"id__gt={HUGE}", "id__gt=%00", f"pk__in={HUGE},1"),
    *("is_archived__exact=maybe", "state__exact=%00", "revoked_at__isempty=2", f"period={HUGE}", "percent=abc"),
    *("created_at__gte=yesterday", "created_at__range=1", "created_at__date=99999-01-01"),
    *("owner__password__startswith=pbkdf2", "user__pk__exact=x", f"user__id__exact={HUGE}", "is_staff__exact=%00"),
    *("_changelist_filters=%FF", "before=%00", "before=zzz", "since=9999-99-99", "since=0001-01-01T00:00%2B14:00"),
    *("until=nonsense", "trace=%00", "record=%00", "receipt=%00%FF", f"receipt={HUGE}-{HUGE}", "refusal=%00"),
    *("span=[]", "s=%00", "s=x&page=abc&extended=1", "s=x&page=9999", "s=x&page=0", f"export_id={ENDLESS}"),
    *("%FF%FE=%ED%A0%80", "=", "&&&", "name=%00", f"owner={HUGE}", "owner=abc", f"user={HUGE}"),
]
_COMPLETE = "app_label=datasets&model_name=apikey&field_name=project"
COMPLETIONS = ["", "app_label=x", f"{_COMPLETE}&term=%00", f"{_COMPLETE}&term=a&page=abc", f"{_COMPLETE}&page={HUGE}"]
PIECES = ["0", "-1", "abc", "%00", HUGE, ENDLESS, "%FF", "_00", "..%2F", "a_ZZ", "%ED%A0%80", "1%2F2"]
# The last part of addresses that process a form.
_TAKE_FORMS = ("/add/", "/change/", "/check/", "/infer/", "/answer/", "/rotate/", "/password/", "_change/")
_LONE = '{"fields": [{"name": "\\ud800", "type": "\\ud800", "description": "\\ud800"}]}'
POSTS: list[dict[str, Any]] = [
    {"action": "nothing", "_selected_action": "abc"},
    {"action": "revoke", "_selected_action": HUGE, "index": "abc"},
    {"action": "replay", "_selected_action": ["\x00", ENDLESS]},
    {"schema": _DEEP, "sample": _DEEP, "body": _DEEP, "name": "n", "slug": "n"},
    {"schema": _LONE, "sample": '{"\\ud800": "\\ud800"}', "body": '{"\\ud800": 1}', "name": "n", "slug": "n"},
    {"schema": '{"fields": 1}', "sample": "[]", "body": "\x00", "form": "nothing", "name": "\x00", "slug": "\x00"},
    {"schema": '{"fields": [[1]]}', "sample": "{" * 9, "key": ENDLESS, "send": "yes", "grace": HUGE},
    {"schema": json.dumps({"fields": {f"f{n}": "x" * 99 for n in range(500)}}), "key": HUGE, "send": "yes"},
    {"schema": "[null]", "key": "\x00", "send": "yes", "project": HUGE, "owner": HUGE, "user": HUGE, "groups": HUGE},
    {"project": "abc", "owner": "\x00", "member_names": "a\x00b," + "x" * 300, "ends": "date", "ends_on": "9999-99-99"},
    {"ends": "date", "ends_on": "0000-00-00", "preset": "other", "number": ENDLESS, "_loaded": "\x00"},
    {"username": "\x00", "password1": "\x00", "password2": "\x00", "default_dataset": HUGE, "records": "\x00"},
]


def asked(paths: list[str], templates: list[str]) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Yield the method, address and form of every request."""
    for path in paths:
        is_list = path.count("/") <= 4
        for query in (COMPLETIONS if "autocomplete" in path else QUERIES) if is_list else QUERIES[::9]:
            yield "get", f"{path}?{query}", None
        for form in POSTS if path.endswith(_TAKE_FORMS) else POSTS[::6]:
            yield "post", path, form
    for template in templates:
        for piece in PIECES:
            yield "get", re.sub(r"<(?:\w+:)?\w+>", piece, template), None
            yield "post", re.sub(r"<(?:\w+:)?\w+>", piece, template), {"post": "yes"}


def failures(user: User, tenant: Tenant, *, step: int) -> list[str]:
    """Send every `step`th request. Return the requests that get a 5xx, or a refusal that is not an HTML page."""
    client = Client(raise_request_exception=False, headers={"host": "localhost"})
    client.force_login(user)
    logging.disable(logging.CRITICAL)  # each refusal would log a traceback
    found, shown = [], 0
    for method, address, form in islice(asked(*everything(tenant)), 0, None, step):
        answer = getattr(client, method)(address, form) if form else getattr(client, method)(address)
        shown += answer.status_code == 200
        kind = answer.headers.get("Content-Type", "")
        # The page's own scripts read the refusals of these addresses.
        is_for_script = "/infer/" in address or "/answer/" in address
        if answer.status_code >= 500 or (answer.status_code >= 400 and "text/html" not in kind and not is_for_script):
            found.append(f"{method} {address[:150]} {str(form)[:150]}: {answer.status_code} {kind}")
        if answer.status_code == 302 and "/admin/login" in answer.headers["Location"]:
            client.force_login(user)  # a new password ends the session
    logging.disable(logging.NOTSET)
    assert shown * step > 500, "too few pages were shown"
    return found


def everything(tenant: Tenant) -> tuple[list[str], list[str]]:
    """Return the path of every page with a tenant's objects, and the paths that have placeholders."""
    paths = sorted({*lists(), *(path for _, path in addresses_of(tenant)), "/admin/autocomplete/", "/admin/login/"})
    templates = {f"/admin/{written}" for written, _ in admin_patterns() if "<" in written and "(?P" not in written}
    return [quote(path) for path in paths if "logout" not in path], sorted(templates)
