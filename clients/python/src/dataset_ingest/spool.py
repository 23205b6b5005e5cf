"""The spool: records on disk. After `enqueue` has returned, its record is not lost, even if the client is killed.

Each client has a SQLite file of its own in the spool's directory, and holds a lock on it. When a client starts, it
takes over the files of its dataset that are not locked, because their clients have ended.

A batch and its Idempotency-Key are written before the batch is sent. So a client that takes over a batch sends the same
records under the same key, and the service recognizes what it has accepted already.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dataset_ingest.delivery.batches import Batch, Item, Outcome
from dataset_ingest.errors import ClosedError, DatasetError, OutcomeUnknownError

_TABLES = """
CREATE TABLE IF NOT EXISTS batches (key TEXT PRIMARY KEY, uncertain_since REAL, refused TEXT);
CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, batch TEXT, text BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS records_by_batch ON records (batch);
"""
_REFUSED = "refused.ndjson"
# Connections of a parent process. If a child closed them, SQLite would release the parent's locks.
_of_parents: list[sqlite3.Connection] = []


class Spool:
    """The records of one client that the service has not answered yet.

    The spool survives the end of the process. After a power failure, only the last records may be missing, because
    SQLite does not wait for the disk after each record.
    """

    def __init__(self, directory: str | os.PathLike[str], dataset_id: int | None) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._dataset_id = dataset_id
        # The names of the files of this dataset begin with this text.
        self._dataset = "default" if dataset_id is None else str(dataset_id)
        self._path = self._directory / f"{self._dataset}-{os.getpid()}-{secrets.token_hex(4)}.spool"
        connection = _locked(self._path)
        if connection is None:
            raise OSError(f"The spool {self._path} cannot be locked.")
        self._connection = connection
        self._closed = False

    # -- enqueued records

    def add(self, item: Item) -> None:
        """Keep a record. After this function has returned, the record is not lost when the process ends."""
        with self._lock:
            cursor = self._connection.execute("INSERT INTO records (text) VALUES (?)", [item.text])
            item.spooled = cursor.lastrowid or 0

    # -- what the sender stores

    def begin(self, batch: Batch) -> None:
        """Store a batch with its key, before it is sent."""
        with self._transaction() as execute:
            since = batch.uncertain_since or time.time()
            execute("INSERT OR REPLACE INTO batches VALUES (?, ?, NULL)", [batch.key, since])
            self._assign(batch)

    def not_accepted(self, batch: Batch) -> None:
        """Mark a batch: the service has certainly accepted no attempt so far."""
        with self._transaction() as execute:
            execute("UPDATE batches SET uncertain_since = NULL WHERE key = ?", [batch.key])

    def replace(self, batch: Batch, others: Sequence[Batch]) -> None:
        """Replace a batch that was not accepted by other batches, which have its records."""
        with self._transaction() as execute:
            execute("DELETE FROM batches WHERE key = ?", [batch.key])
            for other in others:
                execute("INSERT INTO batches VALUES (?, NULL, NULL)", [other.key])
                self._assign(other)

    def settle(self, batch: Batch, outcome: Outcome) -> None:
        """Forget the records of a batch. If they were not accepted, write them to the file of refused records.

        First mark them as refused. So if this process is killed meanwhile, no other client sends them.
        """
        if isinstance(outcome, DatasetError):
            told = self._told(batch, outcome)
            with self._transaction() as execute:
                execute("UPDATE batches SET refused = ? WHERE key = ?", [told, batch.key])
            self._write_refused(told, [item.text for item in batch.items])
        with self._transaction() as execute:
            execute("DELETE FROM records WHERE batch = ?", [batch.key])
            execute("DELETE FROM batches WHERE key = ?", [batch.key])

    def _assign(self, batch: Batch) -> None:
        rows = [(batch.key, item.spooled) for item in batch.items]
        self._connection.executemany("UPDATE records SET batch = ? WHERE id = ?", rows)

    def _told(self, batch: Batch, error: DatasetError) -> str:
        """Return a JSON object that says why the records of a batch were refused."""
        told = {
            "dataset_id": self._dataset_id,
            "error": error.message,
            "code": error.code,
            "may_be_accepted": isinstance(error, OutcomeUnknownError),
            "batch": batch.key,
        }
        return json.dumps(told)

    def _write_refused(self, told: str, texts: Iterable[bytes]) -> None:
        said = told[:-1].encode()
        lines = b"".join(b'%b, "record": %b}\n' % (said, text.replace(b"\n", b" ")) for text in texts)
        with (self._directory / _REFUSED).open("ab") as file:
            file.write(lines)

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with self._lock:
            self._check_open()
            self._connection.execute("BEGIN")
            try:
                yield self._connection.execute
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    # -- taking over, and the end

    def take_over(self, max_records: int) -> list[Batch]:
        """Move the records of clients that have ended to this client's file. Return them in batches.

        If this client is killed meanwhile, two files may have the same batch. They have it under the same key, so that
        the service accepts it only once.
        """
        found: dict[str, Batch] = {}
        for path in sorted(self._directory.glob(f"{self._dataset}-*.spool")):
            connection = None if path == self._path else _locked(path)
            if connection is not None:
                _assign_keys(connection, max_records)
                for told, batch in _refused(connection):
                    self._write_refused(told, [item.text for item in batch.items])
                new = {batch.key: batch for batch in _batches(connection) if batch.key not in found}
                self._keep(new.values())
                found |= new
                connection.executescript("DELETE FROM records; DELETE FROM batches;")
                connection.close()
                path.unlink(missing_ok=True)
        return list(found.values())

    def _keep(self, batches: Iterable[Batch]) -> None:
        with self._transaction() as execute:
            for batch in batches:
                execute("INSERT OR REPLACE INTO batches VALUES (?, ?, NULL)", [batch.key, batch.uncertain_since])
                for item in batch.items:
                    row = [batch.key, item.text]
                    item.spooled = execute("INSERT INTO records (batch, text) VALUES (?, ?)", row).lastrowid or 0

    def close(self) -> None:
        """Close the file and release its lock. Delete the file if it has no records."""
        with self._lock:
            (count,) = self._connection.execute("SELECT count(*) FROM records").fetchone()
            self._connection.close()
            self._closed = True
            if count == 0:
                self._path.unlink(missing_ok=True)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("The client was closed.")

    def leave_to_parent(self) -> None:
        """Keep the parent's connection after a fork, so that it is never closed in the child. Do not use it."""
        _of_parents.append(self._connection)


def _locked(path: Path) -> sqlite3.Connection | None:
    """Return a connection that has locked the file, or None if another client has locked it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except sqlite3.OperationalError:
        connection.close()
        return None
    connection.executescript(_TABLES)
    return connection


def _assign_keys(connection: sqlite3.Connection, max_records: int) -> None:
    """Put the records that are in no batch into batches."""
    rows = connection.execute("SELECT id FROM records WHERE batch IS NULL ORDER BY id").fetchall()
    connection.execute("BEGIN")
    for start in range(0, len(rows), max_records):
        key = secrets.token_hex(16)
        connection.execute("INSERT INTO batches VALUES (?, NULL, NULL)", [key])
        some = [(key, *row) for row in rows[start : start + max_records]]
        connection.executemany("UPDATE records SET batch = ? WHERE id = ?", some)
    connection.execute("COMMIT")


def _batches(connection: sqlite3.Connection) -> Iterator[Batch]:
    found = connection.execute("SELECT key, uncertain_since FROM batches WHERE refused IS NULL ORDER BY rowid")
    for key, since in found.fetchall():
        if items := _items(connection, key):
            yield Batch(items, key, since)


def _refused(connection: sqlite3.Connection) -> Iterator[tuple[str, Batch]]:
    """Yield the refused batches of a client that ended before it wrote them to the file of refused records."""
    found = connection.execute("SELECT key, refused FROM batches WHERE refused IS NOT NULL ORDER BY rowid")
    for key, told in found.fetchall():
        yield told, Batch(_items(connection, key), key)


def _items(connection: sqlite3.Connection, key: str) -> list[Item]:
    texts = connection.execute("SELECT text FROM records WHERE batch = ? ORDER BY id", [key]).fetchall()
    return [Item(text) for (text,) in texts]
