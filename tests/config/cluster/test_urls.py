"""The syntax of `redis+cluster://` URLs, and the settings that result from them."""

import runpy
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.common.cluster import urls
from config.common.env import BASE_DIR
from config.environment import read_environment

URL = "redis+cluster://:s3cret@h1,h2"


def test_every_part_of_a_url_is_read() -> None:
    parts = urls.parse("REDIS_URL", "redis+cluster://us%40er:p%2F%40@h1:7,[::1],h3/0")
    assert parts.addresses == [("h1", 7), ("::1", 6379), ("h3", 6379)]
    assert parts.redis == {"username": "us@er", "password": "p/@", "ssl": False}


def test_a_url_with_tls_is_read() -> None:
    parts = urls.parse("REDIS_URL", "rediss+cluster://h?ssl_ca_certs=/a.pem&ssl_check_hostname=false")
    assert parts.redis == {
        "username": None,
        "password": None,
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": "/a.pem",
        "ssl_check_hostname": False,
    }


@pytest.mark.parametrize("rest", ["", ",h", "h1:many", "h1?ssl=1", "h1?x", "h1?sentinel_password=x"])
def test_a_wrong_url_is_refused_without_its_password(rest: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        urls.check("REDIS_URL", f"redis+cluster://:s3cret@{rest}")
    assert str(refusal.value).startswith("REDIS_URL: expected redis+cluster://")
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("path", ["/1", "/service"])
def test_another_database_is_refused(path: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="a cluster has only database 0") as refusal:
        read_environment({"REDIS_URL": URL + path})
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["", "redis://h/1", "unix:///path", "redis+sentinel://h/service/3"])
def test_other_urls_are_not_checked(url: str) -> None:
    urls.check("REDIS_URL", url)


def test_a_cluster_needs_a_broker_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", URL)
    monkeypatch.delenv("CELERY_BROKER_URL")
    with pytest.raises(ImproperlyConfigured, match="Set CELERY_BROKER_URL") as refusal:
        runpy.run_path(str(BASE_DIR / "config" / "settings.py"))
    assert "s3cret" not in str(refusal.value)
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://broker/0")
    found = runpy.run_path(str(BASE_DIR / "config" / "settings.py"))
    assert found["REDIS_IS_CLUSTER"]
    assert found["CELERY_BROKER_URL"] == "redis://broker/0"
    with pytest.raises(ImproperlyConfigured, match="CELERY_BROKER_URL: a cluster cannot be"):
        read_environment({"CELERY_BROKER_URL": URL})
