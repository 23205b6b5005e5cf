"""A contract: what holds for a request with a given key, for a given dataset."""

import re
from dataclasses import dataclass

from config.common.errors import ApiError, Refused
from datasets.schemas.schema import CompiledSchema

_ID = re.compile(r"[1-9][0-9]*", re.ASCII).fullmatch
_MAX_ID = 2**63 - 1  # the maximum of a BigAutoField


class InvalidDatasetId(ApiError):
    """The dataset ID in the path or the header is not a positive integer."""

    status, code, error = 400, "invalid_dataset_id", "Invalid dataset ID"


def read_dataset_id(text: str) -> int:
    """Return the dataset ID in a path or header. Raises InvalidDatasetId.

    If the ID is too large for the database, return an ID that no dataset has.
    """
    if not _ID(text):
        raise InvalidDatasetId({"received": text[:100]})
    return min(int(text[:20]), _MAX_ID)


class DatasetNotFound(ApiError):
    """The dataset does not exist, is another project's, is archived, or has no schema: all get the same answer."""

    status, code, error = 404, "dataset_schema_not_found", "Dataset schema not found"


class InactiveProject(Refused):
    """A command cannot send records to this project, because it or its owner is inactive."""

    def __init__(self) -> None:
        super().__init__(
            "The project or its owner is inactive. Activate it in the admin, and run the same command again."
        )


class StaleContract(Exception):
    """The contract has changed since it was read. This request has changed nothing. Read the contract again."""


@dataclass(frozen=True, slots=True)
class Grace:
    """The grace period of the schema version directly before the latest one."""

    schema: CompiledSchema
    ends_ms: int  # in ms since the epoch, by Redis's clock; later records of this version are refused


@dataclass(frozen=True, slots=True)
class Contract:
    """What holds for a request: its project, owner, key and dataset, and the schema in force."""

    revision: bytes
    project_id: int
    owner_id: int
    key_id: int | None  # None: an import, which needs no API key
    dataset_id: int
    is_archived: bool
    declared: CompiledSchema
    grace: Grace | None = None  # None: only records of the latest version are accepted
    records_per_minute: int | None = None  # None: not a browser key

    @property
    def schema(self) -> CompiledSchema:
        """The schema that records must match. Raises DatasetNotFound if the dataset is archived.

        Clients can still look up the receipts of an archived dataset.
        """
        if self.is_archived:
            raise DatasetNotFound
        return self.declared
