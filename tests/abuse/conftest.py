"""One running service for all of these tests, with two tenants."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.processes.stack import Stack, running
from tests.support.sending.connection import Connection

# A web server with threads would serve this many requests at the same time.
THREADS = 32


@dataclass(frozen=True, slots=True)
class Tenant:
    """A project with one dataset and one key."""

    stack: Stack
    dataset: int
    token: str

    def connect(self) -> Connection:
        return Connection(self.stack.port, self.token)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run `manage.py up` with one web process, which gets all requests of the tests."""
    with running(tmp_path_factory.mktemp("abuse"), "--no-demo", "--web", "1") as stack:
        yield stack


@pytest.fixture(scope="session")
def tenant(service: Stack) -> Tenant:
    _, dataset, token = service.make_dataset("tenant", {"text": "string"})
    return Tenant(service, dataset, token)


@pytest.fixture(scope="session")
def neighbor(service: Stack) -> Tenant:
    """Make another tenant, which does nothing wrong."""
    _, dataset, token = service.make_dataset("neighbor", {"text": "string"}, owner="bob")
    return Tenant(service, dataset, token)
