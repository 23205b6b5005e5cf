"""A contract: what a request with a given key, for a given dataset, is held to."""

from dataclasses import dataclass

from config.common.errors import ApiError
from datasets.schemas.schema import CompiledSchema


class DatasetNotFound(ApiError):
    """No such dataset, another project's, archived, or without a schema: one answer for all."""

    status, code, error = 404, "dataset_schema_not_found", "Dataset schema not found"


class StaleContract(Exception):
    """The contract is no longer in force: nothing happened under it; read it again."""


class CatalogUnavailable(Exception):
    """The contract is not cached and the database does not answer."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What a request is held to: whose it is, and the schema in force."""

    revision: bytes
    project_id: int
    owner_id: int
    key_id: int
    dataset_id: int
    is_archived: bool
    declared: CompiledSchema

    @property
    def schema(self) -> CompiledSchema:
        """What records are held to. Raises DatasetNotFound where none are taken any more: the dataset is archived.

        What was accepted before may still be asked for.
        """
        if self.is_archived:
            raise DatasetNotFound
        return self.declared
