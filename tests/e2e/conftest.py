"""Running stacks for the end-to-end tests."""

from collections.abc import Iterator

import pytest

from tests.support.processes.stack import Stack, running


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run `manage.py up` with its demo, in a directory whose path is too long for a unix socket."""
    parent = tmp_path_factory.mktemp(
        "somebody's directory of a hundred characters and more, with spaces and 100 % signs " + "x" * 40
    )
    data_dir = parent / "data"
    assert len(str(data_dir)) > 110
    with running(data_dir, "--data-dir", str(data_dir)) as stack:
        yield stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run `manage.py up --no-demo`."""
    with running(tmp_path_factory.mktemp("stack"), "--no-demo") as stack:
        yield stack
