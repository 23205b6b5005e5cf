"""The locks have the packages that the .in files name.

The locks are also complete: `make` installs with --require-hashes, and then pip refuses a package that the lock lacks.
"""

import pytest

from config.common.env import BASE_DIR
from tests.support.lock import direct, locked

LOCKS = {"requirements.in": "requirements.txt", "tests/requirements.in": "tests/requirements.txt"}


@pytest.mark.parametrize("source", LOCKS)
def test_lock_is_made_from_its_source(source: str) -> None:
    """If this fails, run `make lock`."""
    lock = locked(BASE_DIR / LOCKS[source])
    asked = {name: each.requirement for name, each in lock.items() if f"-r {source}" in each.asked_by}
    assert asked == direct(BASE_DIR / source)


@pytest.mark.parametrize("lock", LOCKS.values())
def test_lock_pins_every_package_to_one_version_with_hashes(lock: str) -> None:
    for name, each in locked(BASE_DIR / lock).items():
        assert str(each.requirement.specifier).startswith("=="), name
        assert each.hashes, name


def test_tests_run_on_the_packages_of_the_service() -> None:
    service, tests = (locked(BASE_DIR / lock) for lock in LOCKS.values())
    for name, each in service.items():
        assert tests[name].requirement.specifier == each.requirement.specifier, name
        assert tests[name].requirement.extras >= each.requirement.extras, name
        assert tests[name].hashes == each.hashes, name


@pytest.mark.parametrize("lock", LOCKS.values())
def test_lock_leaves_the_package_index_to_the_installer(lock: str) -> None:
    text = (BASE_DIR / lock).read_text()
    assert "://" not in text
    assert "index-url" not in text
