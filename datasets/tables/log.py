"""The log of a table in a directory, read and written without delta-rs.

Each commit is a file in `_delta_log`, named by its version. Each line of the file is an action in JSON. delta-rs reads
all commits since the last checkpoint when it opens a table, and again after each commit: 40 ms of CPU for one row. A
process that knows a table's newest version needs only the commits since then. So `Head` keeps what an append must know,
in 2 KB for each table, and `write_commit` adds a commit. docs/decisions/0019-appends-without-delta-rs.md says why that
is safe.

Everything else is delta-rs's work: the creation of tables, new columns, checkpoints, compaction, object stores, and
tables that another program has changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from config.common import clock
from config.lazy import deltalake
from config.lazy import pyarrow as pa
from datasets.tables import layout
from datasets.tables.layout import PARTITION

Action = Mapping[str, Any]
Identity = tuple[int, int, int]

_SUFFIX = ".json"
_VERSION_DIGITS = 20
_COMMENT = re.compile(r'"metadata":\{"comment":"(?:[^"\\]|\\.)*"\}')
# Actions that change neither the columns nor the properties of a table.
_HARMLESS = {"add", "remove", "txn", "commitInfo"}


@dataclass(slots=True)
class Head:
    """The newest version of a table when its log was last read."""

    uri: str
    version: int
    identity: Identity  # the identity of the version's file
    columns: Mapping[str, pa.DataType]
    table_id: str | None
    transactions: dict[str, int | None] = field(default_factory=dict)  # by name, only those that a caller asked for

    @classmethod
    def of(cls, uri: str, delta: deltalake.DeltaTable) -> Head | None:
        """Return the head of a table that delta-rs has opened. Return None if only delta-rs may append to it."""
        identity = identity_of(uri, delta.version())
        if identity is None or not _is_plain(delta):
            return None
        columns = {column.name: column.type for column in pa.schema(delta.schema())}
        return cls(uri, delta.version(), identity, columns, delta.metadata().configuration.get(layout.TABLE_ID))

    def follow(self) -> bool:
        """Read the commits after this version. Return False if the table must be opened again.

        It must be opened again if another table is in its place, if its columns or properties have changed, if there
        are many commits to read, or if a commit cannot be read.
        """
        newest = newest_version(self.uri)
        if newest is None or identity_of(self.uri, self.version) != self.identity:
            return False
        if not 0 <= newest - self.version <= layout.COMMITS_PER_CHECKPOINT:
            return False
        for version in range(self.version + 1, newest + 1):
            identity = identity_of(self.uri, version)
            actions = read_commit(self.uri, version)
            if identity is None or actions is None or not self._take(actions):
                return False
            self.version, self.identity = version, identity
        return True

    def _take(self, actions: Iterable[Action]) -> bool:
        """Remember the transactions of a commit. Return False if the commit changes more than rows and transactions."""
        for action in actions:
            if not action.keys() <= _HARMLESS:
                return False
            transaction = action.get("txn")
            if transaction and transaction["appId"] in self.transactions:
                self.transactions[transaction["appId"]] = transaction["version"]
        return True

    def add(self, actions: Sequence[Action]) -> None:
        """Add a commit after this version, and make it the head.

        Raises:
            FileExistsError: Another writer has committed after this version. Nothing was committed.
            OSError: The storage failed.
        """
        version = self.version + 1
        write_commit(self.uri, version, actions)
        self._take(actions)
        self.version, self.identity = version, identity_of(self.uri, version) or (0, 0, 0)


def _is_plain(delta: deltalake.DeltaTable) -> bool:
    """Return whether a table has none of the constraints, defaults and features that an append must respect."""
    protocol, metadata, schema = delta.protocol(), delta.metadata(), delta.schema().to_json()
    return (
        protocol.min_reader_version == 1
        and protocol.min_writer_version <= 2
        and metadata.partition_columns == [PARTITION]
        and metadata.configuration.keys() <= {*layout.configuration(), layout.TABLE_ID}
        and '"metadata":{"' not in _COMMENT.sub('"metadata":{}', schema)
        and '"nullable":false' not in schema
    )


def newest_version(uri: str) -> int | None:
    """Return the newest version in a table's log, or None if there is no log."""
    try:
        names = os.listdir(_log(uri))
    except OSError:
        return None
    return max((int(name[:_VERSION_DIGITS]) for name in names if _is_commit(name)), default=None)


def _is_commit(name: str) -> bool:
    return name.endswith(_SUFFIX) and len(name) == _VERSION_DIGITS + len(_SUFFIX) and name[:_VERSION_DIGITS].isdigit()


def identity_of(uri: str, version: int) -> Identity | None:
    """Return what distinguishes a commit's file from another one at the same path, or None if there is no file.

    If a disk was unmounted, its mount point remains as an empty directory. If another table was put in the place of
    this one, it may have the same versions.
    """
    try:
        found = os.stat(_path(uri, version))
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def read_commit(uri: str, version: int) -> list[Action] | None:
    """Return the actions of a commit, or None if its file is not there or cannot be read."""
    try:
        lines = Path(_path(uri, version)).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines if line]
    except (OSError, msgspec.DecodeError):
        return None


def write_commit(uri: str, version: int, actions: Sequence[Action]) -> None:
    """Add a commit, whole or not at all. Write it to a draft first, and then link the draft into the log.

    If the process dies in between, the draft stays in the table's directory, and the next sweep deletes it.

    Raises:
        FileExistsError: The version exists.
        OSError: The storage failed.
    """
    draft = Path(uri) / f"commit-{uuid4()}{_SUFFIX}"
    try:
        draft.write_bytes(b"\n".join(map(msgspec.json.encode, [_commit_info(), *actions])))
        os.link(draft, _path(uri, version))
    finally:
        with suppress(OSError):
            draft.unlink()


def _commit_info() -> Action:
    """Return the action that describes an append, as delta-rs writes it."""
    parameters = {"mode": "Append", "partitionBy": f'["{PARTITION}"]'}
    info = {
        "timestamp": clock.milliseconds(),
        "operation": "WRITE",
        "operationParameters": parameters,
        "engineInfo": "dataset-ingest",
    }
    return {"commitInfo": info}


def _log(uri: str) -> str:
    return f"{uri}/_delta_log"


def _path(uri: str, version: int) -> str:
    return f"{_log(uri)}/{version:0{_VERSION_DIGITS}}{_SUFFIX}"
