"""What the end-to-end tests share: running stacks."""

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, running


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`manage.py up` as a newcomer runs it, in a directory with a longer path than a unix socket may have."""
    parent = tmp_path_factory.mktemp(
        "somebody's directory of a hundred characters and more, with spaces and 100 % signs " + "x" * 40
    )
    data_dir = parent / "data"
    assert len(str(data_dir)) > 110
    with running(data_dir, "--data-dir", str(data_dir)) as stack:
        yield stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`manage.py up --no-demo`."""
    with running(tmp_path_factory.mktemp("stack"), "--no-demo") as stack:
        yield stack
