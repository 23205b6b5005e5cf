"""A dataset as a client knows it: its ID and the fields of its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataset_ingest.schema.fields import Field, read_fields
from dataset_ingest.schema.models import fields_of
from dataset_ingest.schema.records import Records


class Dataset:
    """A dataset: its ID and its fields.

    Args:
        id: The ID of the dataset. None is the default dataset of the key's project.
        fields: The fields, like `{"amount": "number", "note": "string?"}`, or a dataclass, a pydantic model or a
            msgspec Struct with these fields. `timestamp` and `context` are part of every record. A model may have
            them, but an object of fields must not have them.

    Raises:
        ValueError: The fields are not a schema.
        TypeError: A type of the model has no counterpart in the schema language.
    """

    def __init__(self, id: int | None, fields: Mapping[str, Any] | type) -> None:  # noqa: A002
        self.id = id
        self.fields: tuple[Field, ...] = read_fields(fields) if isinstance(fields, Mapping) else fields_of(fields)
        self.records = Records(self.fields)

    @classmethod
    def of(cls, given: Dataset | Mapping[str, Any] | type) -> Dataset:
        """Return the dataset that `given` describes.

        A mapping is like `{"id": 13, "fields": {...}}`. A model may have the dataset's ID in `__dataset_id__`.
        """
        if isinstance(given, Dataset):
            return given
        if isinstance(given, type):
            return cls(getattr(given, "__dataset_id__", None), given)
        unknown = set(given) - {"id", "fields"}
        if unknown or "fields" not in given:
            raise ValueError('A dataset is written like {"id": 13, "fields": {"amount": "number"}}.')
        return cls(given.get("id"), given["fields"])

    def declared(self) -> dict[str, Any]:
        """Return the fields as the service expects them in a schema."""
        return {field.name: field.declared() for field in self.fields}

    @property
    def path(self) -> str:
        """The path to which batches of records are sent."""
        return "/datasets/batch" if self.id is None else f"/datasets/{self.id}/batch"
