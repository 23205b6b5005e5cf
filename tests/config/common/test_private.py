"""Only the owner can use the data directory. A directory that holds other things keeps its rights."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from config.common.private import UMASK, make_private, private_directory, private_temporary_directory
from config.processes.supervise import programs


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    """Use the usual umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(directory: Path) -> list[str]:
    """Return the paths to which other users have rights, including the directory itself."""
    return [str(path) for path in [directory, *directory.rglob("*")] if path.lstat().st_mode & 0o077]


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    private_directory(tmp_path / "new" / "data")
    assert open_to_others(tmp_path / "new" / "data") == []


def test_files_that_an_earlier_version_left_open_are_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "secret_key", "demo-admin-password", "logs/web.log"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("secret")
    for name in ("redis/appendonlydir", "tables/project_1/dataset_1/_delta_log", "static", "supervisor"):
        (data / name).mkdir(parents=True)
        (data / name / "file").write_text("secret")
    assert len(open_to_others(data)) == sum(1 for _ in data.rglob("*")) + 1
    private_directory(data)
    make_private(data)
    assert open_to_others(data) == []
    assert (data / "db.sqlite3").stat().st_mode & 0o700 == 0o600
    assert (data / "logs").stat().st_mode & 0o700 == 0o700


def test_in_a_shared_directory_only_our_files_become_private(tmp_path: Path) -> None:
    data = tmp_path / "srv"
    for name in ("website", "logs"):
        (data / name).mkdir(parents=True)
    private_directory(data)
    make_private(data)
    assert open_to_others(data) == [str(data), str(data / "website")]


def test_a_sticky_directory_keeps_its_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "secret_key").write_text("somebody's")
    private_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_links_out_of_the_data_directory_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    data = tmp_path / "data"
    private_directory(data)
    (data / "tables").symlink_to(tmp_path / "elsewhere")
    make_private(data)
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755


def test_a_path_that_is_not_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match=r"^DATA_DIR=.* cannot be used .*set DATA_DIR to another directory"):
        private_directory(tmp_path / "file")


# -- the directory of a socket that cannot be in the data directory


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace /tmp. Return the path of the private directory, which does not exist yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"dataset-ingest-{os.geteuid()}"


def test_only_the_owner_can_use_the_temporary_directory(in_tmp: Path) -> None:
    for _ in range(2):
        assert private_temporary_directory(os.geteuid()) == in_tmp
    assert open_to_others(in_tmp) == []


def make_open(path: Path) -> None:
    path.mkdir(mode=0o755)


def make_link(path: Path) -> None:
    (path.parent / "mine").mkdir(mode=0o700)
    path.symlink_to(path.parent / "mine")


def make_file(path: Path) -> None:
    path.touch(mode=0o600)


def make_foreign(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, os.geteuid() + 1, -1)


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


@pytest.mark.parametrize("make", [make_open, make_link, make_file, pytest.param(make_foreign, marks=AS_ROOT)])
def test_an_unsafe_temporary_directory_is_refused(in_tmp: Path, make: Callable[[Path], None]) -> None:
    make(in_tmp)
    with pytest.raises(ImproperlyConfigured, match="must be a directory that only user"):
        private_temporary_directory(os.geteuid())


@AS_ROOT
def test_root_uses_the_temporary_directory_of_the_service(in_tmp: Path) -> None:
    path = private_temporary_directory(os.geteuid() + 1)
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (os.geteuid() + 1, 0o700)


@pytest.mark.parametrize(("storage", "expected"), [("data/tables", UMASK), ("shared", 0o027)])
def test_tables_elsewhere_get_the_operators_umask(
    settings: Settings, tmp_path: Path, storage: str, expected: int
) -> None:
    settings.DATA_DIR, settings.STORAGE_URL = tmp_path / "data", str(tmp_path / storage)
    settings.DATA_DIR.mkdir()
    umasks = {program.name: program.umask for program in programs(port=1, web=1, workers=1, umask=0o027)}
    assert umasks == {"web": UMASK, "worker": expected, "upkeep": expected, "beat": UMASK}
