"""Origins are written as browsers write them. If a text is not an origin, the error says why."""

import pytest
from django.core.exceptions import ValidationError

from datasets.origins import MAX_ORIGINS, read_origin, read_origins, unencrypted

SPELLINGS = {
    "https://shop.example.com": "https://shop.example.com",
    "HTTPS://Shop.Example.COM/": "https://shop.example.com",
    " https://shop.example.com:443 ": "https://shop.example.com",
    "http://shop.example.com:80": "http://shop.example.com",
    "https://shop.example.com:80": "https://shop.example.com:80",
    "http://localhost:3000": "http://localhost:3000",
    "http://127.0.0.1:08080": "http://127.0.0.1:8080",
    "http://[::0:1]:3000": "http://[::1]:3000",
    "https://xn--mller-kva.example": "https://xn--mller-kva.example",
    "https://my_shop.example.com": "https://my_shop.example.com",
    "https://intranet": "https://intranet",
}
WRONG = {
    "*": "would let every page use the key",
    "null": "would let every page use the key",
    "https://*.example.com": "has a wildcard",
    "shop.example.com": "does not begin with https:// or http://",
    "": "does not begin with https:// or http://",
    "ftp://shop.example.com": "does not begin with https:// or http://",
    "chrome-extension://abcdefgh": "does not begin with https:// or http://",
    "https://": "does not begin with https:// or http://",
    "https://shop.example.com/cart": "is an address, but an origin has no path",
    "https://shop.example.com//": "is an address, but an origin has no path",
    "https://shop.example.com?a": "is an address, but an origin has no path",
    "https://shop.example.com#": "is an address, but an origin has no path",
    "https://me:secret@shop.example.com": "is an address, but an origin has no path and no login",
    "https://müller.example": "is not an origin that a browser sends",
    "https://shop.example.com\n": "is not an origin that a browser sends",
    "https://" + "a." * 200 + "example": "is not an origin that a browser sends",
    "https://shop.example.com:": "has no valid host or port",
    "https://shop.example.com:0": "has no valid host or port",
    "https://shop.example.com:99999": "is not an origin",
    "https://shop.example.com:x": "is not an origin",
    "https://-shop.example.com": "has no valid host or port",
    "https://shop..example.com": "has no valid host or port",
    "https://[::1": "is not an origin",
    "https://[::g]": "is not an origin",
}


@pytest.mark.parametrize(("written", "origin"), SPELLINGS.items())
def test_an_origin_is_written_as_browsers_do(written: str, origin: str) -> None:
    assert read_origin(written) == origin
    assert read_origin(origin) == origin


@pytest.mark.parametrize(("written", "problem"), WRONG.items())
def test_a_text_that_is_not_an_origin_is_explained(written: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=r"“") as refused:
        read_origin(written)
    assert problem in refused.value.message


def test_every_problem_of_a_list_is_named_and_no_origin_is_twice() -> None:
    assert read_origins(["https://a.example", "https://A.example/", "http://b.example"]) == [
        "https://a.example",
        "http://b.example",
    ]
    with pytest.raises(ValidationError) as refused:
        read_origins(["*", "https://a.example", "b.example"])
    assert len(refused.value.messages) == 2
    with pytest.raises(ValidationError, match=f"at most {MAX_ORIGINS} origins"):
        read_origins(f"https://{number}.example" for number in range(MAX_ORIGINS + 1))


def test_unencrypted_origins_of_other_hosts_are_found() -> None:
    local = [
        "http://localhost:3000",
        "http://127.0.0.1",
        "http://[::1]:1",
        "http://shop.localhost",
        "https://a.example",
    ]
    assert unencrypted([*local, "http://a.example:81", "http://localhost.example"]) == [
        "http://a.example:81",
        "http://localhost.example",
    ]
