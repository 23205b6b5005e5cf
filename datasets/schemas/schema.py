"""The compiled schema of a version: the decoders of its records."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import msgspec
from msgspec import Raw, Struct

from config.lazy import pyarrow as pa
from datasets.schemas.checked import decoder
from datasets.schemas.date_times import Timestamp
from datasets.schemas.derived_types import type_of
from datasets.schemas.fields import ALWAYS_THERE, Field


class _AnyObject(Struct, gc=False):
    """Accepts any JSON object and keeps nothing of it. Validation only checks that `context` is an object."""


class CompiledSchema:
    """The decoders of a published version, which validate requests and read queued records.

    Each decoder is built when it is first used, because web processes only validate, and workers only read.
    """

    def __init__(self, version_id: int, fields: Sequence[Field]) -> None:
        self.version_id = version_id
        self.fields = tuple(fields)
        self.types = {field.name: type_of(field) for field in fields}
        # Whether every value of a timestamp field is a text. Otherwise, values may also be null or arrays.
        self.has_plain_times = not any(each.spelled and each.read is not str for each in self.types.values())
        self.has_arrays = any(each.is_array for each in self.types.values())
        self.has_patterns = any(field.pattern is not None for field in fields)

    def knows(self, name: str) -> bool:
        """Return whether a record may have a field of this name."""
        return name in self.types or name in ALWAYS_THERE

    def columns(self) -> "dict[str, pa.DataType]":
        """Return the Arrow types of the fields' columns by name."""
        return {name: each.arrow() for name, each in self.types.items()}

    def _record(self, context: Any, timestamp: Any, types: list[Any]) -> type[Struct]:
        """Return a struct for a record, with these types for `context`, `timestamp` and the declared fields."""
        # Attributes are called f0, f1, ... because a field may have any name, even `def` or `__init__`.
        names = {f"f{n}": field.name for n, field in enumerate(self.fields)}
        declared: list[Any] = [
            (attribute, kind, None) if field.optional else (attribute, kind)
            for attribute, kind, field in zip(names, types, self.fields, strict=True)
        ]
        return msgspec.defstruct(
            "Record",
            [("timestamp", timestamp), ("context", context), *declared],
            rename=names,
            forbid_unknown_fields=True,
            kw_only=True,  # a field without a default may follow one with a default
            gc=False,
        )

    @cached_property
    def one(self) -> "msgspec.json.Decoder[Any]":
        """The decoder that validates a single record."""
        return decoder(self._validated)

    @cached_property
    def many(self) -> "msgspec.json.Decoder[list[Any]]":
        """The decoder that validates an array of records."""
        return decoder(list[self._validated])  # type: ignore[name-defined]

    @cached_property
    def queued(self) -> "msgspec.json.Decoder[list[Any]]":
        """The decoder that reads an array of queued records for columns. `context` and timestamps stay texts."""
        record = self._record(Raw, str, [each.read for each in self.types.values()])
        return msgspec.json.Decoder(list[record])  # type: ignore[valid-type]

    @cached_property
    def date_times(self) -> "msgspec.json.Decoder[list[Any]]":
        """The decoder that reads only the timestamps of an array of records: texts, arrays of texts, None."""
        kinds = {f"f{n}": each for n, each in enumerate(self.types.values()) if each.spelled}
        names = {f"f{n}": field.name for n, field in enumerate(self.fields) if f"f{n}" in kinds}
        fields: list[Any] = [("timestamp", str), *((attribute, each.read, None) for attribute, each in kinds.items())]
        return msgspec.json.Decoder(list[msgspec.defstruct("DateTimes", fields, rename=names, gc=False)])  # type: ignore[misc]

    @cached_property
    def _validated(self) -> type[Struct]:
        return self._record(_AnyObject, Timestamp, [each.decodes_to for each in self.types.values()])


@lru_cache(maxsize=20_000)
def compile_schema(version_id: int, fields: tuple[Field, ...]) -> CompiledSchema:
    """Return the compiled schema of a version. A process compiles each version once, for all keys and drains."""
    return CompiledSchema(version_id, fields)
