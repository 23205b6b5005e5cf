"""Read keys and datasets from the database. These functions block, so they run in threads."""

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection

from config.common import clock
from config.common.errors import ApiError
from datasets import tags
from datasets.contracts.browsers import BrowserKey
from datasets.contracts.cache import DatasetRow, Entry, KeyRow
from datasets.contracts.contract import Contract, DatasetNotFound, Grace, InactiveProject
from datasets.contracts.keys import Claims, InvalidApiKey
from datasets.models import ApiKey
from datasets.schemas.fields import Field
from datasets.schemas.schema import CompiledSchema, compile_schema

# Use plain SQL, because Django needs ten times as long to build a query as the database needs to run it. After each
# change of a project, requests read its contracts again.
_KEYS = """
SELECT k.project_id, k.token_id, k.id, k.expires_at, p.owner_id, p.default_dataset_id, k.origins, k.records_per_minute
FROM datasets_apikey k
JOIN datasets_project p ON p.id = k.project_id
JOIN auth_user u ON u.id = p.owner_id
WHERE k.revoked_at IS NULL AND p.is_active AND u.is_active AND """
_DATASETS = """
FROM datasets_dataset d
LEFT JOIN datasets_schemaversion v ON v.dataset_id = d.id
    AND v.number = (SELECT max(number) FROM datasets_schemaversion WHERE dataset_id = d.id)
WHERE """
_DATASET_ROW = "SELECT d.project_id, d.id, d.is_archived, v.id, v.previous_valid_until"
_PREVIOUS_VERSION = """
SELECT v.id, v.fields FROM datasets_schemaversion v
WHERE v.dataset_id = %s AND v.id <> %s ORDER BY v.number DESC LIMIT 1"""
_KEY_OF_TOKEN = _KEYS + "k.token_id = %s AND k.project_id = %s"
_OWNER = """
SELECT p.owner_id FROM datasets_project p JOIN auth_user u ON u.id = p.owner_id
WHERE p.is_active AND u.is_active AND p.id = %s"""
_DATASET_WITH_FIELDS = _DATASET_ROW + ", v.fields" + _DATASETS + "d.id = %s AND d.project_id = %s"
# No clock of the installation differs from Redis's clock by this much. So a grace period that ended longer ago is over
# in every process, and its requests need not check the time.
_LONG_OVER_SECONDS = 86_400.0
_TOKEN_ID = ApiKey._meta.get_field("token_id")


def read(revision: bytes, claims: Claims, dataset_id: int | None) -> Entry:
    """Return what the database says about a token and a dataset. Raises DatabaseError."""
    moment = time.monotonic()
    token_id = _TOKEN_ID.get_db_prep_value(claims.token_id, connection)
    keys = _select(_KEY_OF_TOKEN, (token_id, claims.project_id))
    key = KeyRow(*keys[0]) if keys else None
    wanted = key.default_dataset_id if key and dataset_id is None else dataset_id
    found = _select(_DATASET_WITH_FIELDS, (wanted, claims.project_id)) if key and wanted else []
    dataset = DatasetRow(*found[0][:-1]) if found else None
    browser = _browser_key(key) if key else None
    outcome: Contract | type[ApiError] = InvalidApiKey if key is None else DatasetNotFound
    if key and dataset and dataset.version_id:
        outcome = _contract(revision, key.owner_id, key.id, found[0], browser)
    expires_at = claims.expires_at if key else 0
    if key and key.expires_at:
        expires_at = min(expires_at, _timestamp(key.expires_at))
    fresh_until = moment + settings.CATALOG_TTL_SECONDS
    return Entry(claims, revision, outcome, browser, expires_at, (key, dataset), fresh_until, used_at=moment)


def read_without_key(revision: bytes, project_id: int, dataset_id: int) -> Contract:
    """Return the contract for records that a command sends to a dataset, without an API key.

    Raises InactiveProject, DatasetNotFound if there is no schema, or DatabaseError.
    """
    owners = _select(_OWNER, (project_id,))
    if not owners:
        raise InactiveProject
    found = _select(_DATASET_WITH_FIELDS, (dataset_id, project_id))
    if not found or not DatasetRow(*found[0][:-1]).version_id:
        raise DatasetNotFound
    return _contract(revision, owners[0][0], None, found[0])


def _contract(
    revision: bytes, owner_id: int, key_id: int | None, found: tuple[Any, ...], browser: BrowserKey | None = None
) -> Contract:
    """Return the contract for a row of `_DATASET_WITH_FIELDS` that has a schema."""
    *row, fields = found
    dataset = DatasetRow(*row)
    version_id: Any = dataset.version_id
    tags.note(dataset.project_id, dataset.id, owner_id)
    return Contract(
        revision=revision,
        project_id=dataset.project_id,
        owner_id=owner_id,
        key_id=key_id,
        dataset_id=dataset.id,
        is_archived=dataset.is_archived,
        declared=_compiled(version_id, fields),
        grace=_grace(dataset),
        records_per_minute=browser.records_per_minute if browser else None,
    )


def _browser_key(key: KeyRow) -> BrowserKey | None:
    origins = frozenset(json.loads(key.origins))
    return BrowserKey(origins, key.records_per_minute) if origins else None


def _compiled(version_id: int, fields: str) -> CompiledSchema:
    return compile_schema(version_id, tuple(map(Field.from_json, json.loads(fields))))


def _grace(dataset: DatasetRow) -> Grace | None:
    """Return a dataset's grace period, or None if there is none or if it is over by every clock."""
    if dataset.previous_valid_until is None:
        return None
    ends = _timestamp(dataset.previous_valid_until)
    if ends < clock.seconds() - _LONG_OVER_SECONDS:
        return None
    ((version_id, fields),) = _select(_PREVIOUS_VERSION, (dataset.id, dataset.version_id))
    return Grace(_compiled(version_id, fields), int(ends * 1000))


def _timestamp(moment: datetime) -> float:
    """Return a time as a Unix timestamp. SQLite returns times without a time zone. Django has written them in UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def rows(key_ids: set[int], dataset_ids: set[int]) -> tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]:
    """Return the rows of keys and of datasets as `read` gets them. Raises DatabaseError."""
    close_old_connections()
    try:
        keys = set(_select(_KEYS + "k.id " + _among(key_ids), key_ids))
        datasets = set(_select(_DATASET_ROW + _DATASETS + "d.id " + _among(dataset_ids), dataset_ids))
    finally:
        close_old_connections()
    return keys, datasets


def _among(ids: set[int]) -> str:
    return f"IN ({', '.join(['%s'] * len(ids))})"


def _select(query: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, list(values))
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
