"""The syntax of `redis+sentinel://` URLs, and the settings that Celery gets from them."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.common.sentinel import urls


def test_every_part_of_a_url_is_read() -> None:
    url = "redis+sentinel://us%40er:p%2F%40@h1:7,[::1],h3/My%20service/5?sentinel_username=u&sentinel_password=s%26"
    parts = urls.parse("REDIS_URL", url)
    assert parts.addresses == [("h1", 7), ("::1", 26379), ("h3", 26379)]
    assert parts.service == "My service"
    assert parts.to_redis() == {"db": 5, "username": "us@er", "password": "p/@"}
    assert parts.to_sentinel() == {"username": "u", "password": "s&", "ssl": False}
    assert urls.for_celery(parts) == (
        "sentinel://us%40er:p%2F%40@h1:7/5;sentinel://us%40er:p%2F%40@[::1]:26379/5;"
        "sentinel://us%40er:p%2F%40@h3:26379/5"
    )


def test_tls_is_for_redis_and_for_the_sentinels() -> None:
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/a.pem", "ssl_check_hostname": False}
    parts = urls.parse("REDIS_URL", "rediss+sentinel://h/service?ssl_ca_certs=/a.pem&ssl_check_hostname=false")
    assert parts.to_redis() == {"db": 0, "username": None, "password": None, **tls}
    assert parts.to_sentinel() == {**tls, "ssl": True}
    assert urls.parse("REDIS_URL", "rediss+sentinel://h/service").tls["ssl_check_hostname"] is True


@pytest.mark.parametrize(
    "rest",
    ["h1,h2", "h1,h2/", "/service", "h1,/service", "h1:many/service", "h1/service/x", "h1/service?ssl=1", "h1/s?x"],
)
def test_a_wrong_url_is_refused_without_its_password(rest: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        urls.check("REDIS_URL", f"redis+sentinel://:s3cret@{rest}")
    assert str(refusal.value).startswith("REDIS_URL: expected redis+sentinel://")
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["", "redis://h/1", "unix:///path", "amqp://h"])
def test_other_urls_are_not_checked(url: str) -> None:
    urls.check("REDIS_URL", url)
