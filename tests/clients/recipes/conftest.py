"""One running service for all recipes."""

from collections.abc import Iterator

import pytest

from tests.support.processes.stack import Stack, running


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("recipes") / "data", "--no-demo", "--web", "1") as started:
        yield started
