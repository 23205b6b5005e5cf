"""Write records as JSON, and check them against a schema by the rules of the service.

One typed decode by msgspec checks a whole record. If it fails, a second reading finds every problem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from dataset_ingest.schema.constraints import type_of
from dataset_ingest.schema.date_times import FIRST_DAY, LAST_DAY, Timestamp, is_date_time
from dataset_ingest.schema.explanations import json_type
from dataset_ingest.schema.field_types import decoder, texts_of
from dataset_ingest.schema.fields import Field
from dataset_ingest.schema.problems import MAX_PROBLEMS, Problem, not_an_object, not_json, problems

PARSE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_TOO_DEEP = "The values are nested too deep. At most 900 levels are supported."

# msgspec accepts timestamps that RFC 3339 forbids: an offset without a colon (`+0000`), and a space instead of the T.
_LAX_EAST = re.compile(r'\+\d{4}"', re.ASCII).search
_LAX_SPACE = re.compile(r"-\d\d \d\d:", re.ASCII).search
_LAX_WEST = re.compile(r'-\d{4}"', re.ASCII).search
# A timestamp can be in the year 0 or 10000 in UTC only if the day in its text is one of these.
_FIRST_DAY, _LAST_DAY = f'"{FIRST_DAY}', f'"{LAST_DAY}'
_ESCAPED = re.compile(r"\\u00(?:2[0bdeBDE]|3[0-9aA])").search


class _AnyObject(Struct, gc=False):
    """Accepts any JSON object and keeps none of its members."""


def _hook(value: Any) -> Any:
    """Return what msgspec can encode instead of a value: pydantic's models write their JSON themselves."""
    if hasattr(value, "model_dump_json"):
        return Raw(value.model_dump_json(by_alias=True).encode())
    raise TypeError(f"an object of the type {type(value).__name__} cannot be written as JSON")


_encode = msgspec.json.Encoder(enc_hook=_hook).encode
# Most values have one of these types. They contain no other values, so there is nothing more to check in them.
_SCALARS = frozenset((str, int, float, bool, type(None), datetime, date, Decimal, UUID))
# Types that msgspec would write as another kind of value -> what to pass instead.
_CONVERTED: dict[type, str] = {
    **dict.fromkeys((set, frozenset), "a list"),
    **dict.fromkeys((bytes, bytearray, memoryview), "a text"),
}


class Refused(Exception):
    """A record does not match its schema. `problems` has at most MAX_PROBLEMS + 1 problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(str(problems[0]))
        self.problems = problems


class Records:
    """Encodes and checks the records of one schema."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._types = {field.name: type_of(field) for field in fields}
        names = {f"f{n}": field.name for n, field in enumerate(fields)}
        declared: list[Any] = [
            (attribute, kind.decodes_to, None) if kind.optional else (attribute, kind.decodes_to)
            for attribute, kind in zip(names, self._types.values(), strict=True)
        ]
        record = msgspec.defstruct(
            "Record",
            [("timestamp", Timestamp), ("context", _AnyObject), *declared],
            rename=names,
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        self._decode = decoder(record).decode
        self._decode_many = decoder(list[record]).decode  # type: ignore[valid-type]
        self._date_times = self._timestamps(names)
        self._dated = ["timestamp", *(name for name, kind in self._types.items() if kind.spelled)]

    def _timestamps(self, names: dict[str, str]) -> msgspec.json.Decoder[Any]:
        """Return the decoder that reads only the timestamps of a record, as texts."""
        kinds = {attribute: self._types[name] for attribute, name in names.items() if self._types[name].spelled}
        found: list[Any] = [("timestamp", str), *((attribute, kind.read, None) for attribute, kind in kinds.items())]
        return msgspec.json.Decoder(msgspec.defstruct("DateTimes", found, rename={n: names[n] for n in kinds}))

    def encode(self, record: Any) -> bytes:
        """Return a record as JSON text. Raise Refused if it does not match the schema."""
        try:
            text = _encode(record)
            _check_unconverted([record])
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Refused([not_json(_why_not_encoded(error))]) from None
        read = text.decode()  # a search in a str is many times faster than in bytes
        if "null" in read:
            _check_finite(record)
        try:
            self._decode(text)
            if type(record) is dict and self._has_usual_date_times(record):
                return text
        except PARSE_ERRORS:
            pass
        self._check(text, read)
        return text

    def encode_many(self, records: Sequence[Any]) -> bytes | None:
        """Return records as one JSON array. This is faster than to encode them one by one.

        Return None if a record does not match the schema, or if the records must be checked one by one.
        """
        try:
            text = _encode(records)
            _check_unconverted(list(records))
            self._decode_many(text)
            read = text.decode()
            return None if "null" in read or _may_be_misread(read) else text
        except (TypeError, ValueError, OverflowError, RecursionError):
            return None

    def check(self, text: bytes) -> None:
        """Raise Refused if a JSON text is not a record of the schema."""
        try:
            read = text.decode()  # msgspec does not check that `context` is UTF-8
        except UnicodeDecodeError as error:
            raise Refused([not_json(f"{error}.")]) from None
        self._check(text, read)

    def _check(self, text: bytes, read: str) -> None:
        try:
            self._decode(text)
            if not _may_be_misread(read) or self._has_date_times(text):
                return
        except PARSE_ERRORS:
            pass
        found = self._problems(text)
        if found:
            raise Refused(found)

    def _has_usual_date_times(self, record: Mapping[str, Any]) -> bool:
        """Return True if all timestamps of a record are certainly valid. If not, another check must decide."""
        for name in self._dated:
            value = record.get(name)
            if type(value) is str:
                if value[10] != "T" or value[-1] != "Z" or value[0] not in "12":
                    return False
            elif not (type(value) is datetime and 1 < value.year < 9999) and value is not None:
                return False
        return True

    def _has_date_times(self, text: bytes) -> bool:
        values = msgspec.structs.astuple(self._date_times.decode(text))
        return all(is_date_time(each) for value in values for each in texts_of(value))

    def _problems(self, text: bytes) -> list[Problem]:
        """Return the problems of a record, or none if a name occurs twice and its last value is right."""
        try:
            msgspec.json.decode(text, type=Raw)
            text.decode()
            if json_type(text) != "object":
                return [not_an_object(text)]
            members = {name: bytes(value) for name, value in msgspec.json.decode(text, type=dict[str, Raw]).items()}
            return list(islice(problems(self._types, members), MAX_PROBLEMS + 1))
        except RecursionError:
            return [not_json(_TOO_DEEP)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return [not_json(f"{error}.")]


def _may_be_misread(text: str) -> bool:
    """Return False if msgspec has certainly accepted no invalid timestamp. Return True if it may have accepted one."""
    if "\\" in text and "\\u00" in text and _ESCAPED(text):
        return True
    if ("+" in text and _LAX_EAST(text)) or (" " in text and _LAX_SPACE(text)):
        return True
    return _FIRST_DAY in text or _LAST_DAY in text or _LAX_WEST(text) is not None


def _why_not_encoded(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, UnicodeEncodeError):
        return "A text has half of a surrogate pair, which is not a character."
    return f"{str(error)[:1].upper()}{str(error)[1:]}."


def _check_unconverted(values: list[Any]) -> None:
    """Raise TypeError for values that msgspec would convert: sets, bytes, and names that are not texts."""
    while values:
        value = values.pop()
        if isinstance(value, dict):
            for name, inside in value.items():
                if type(name) is not str and not isinstance(name, str):
                    raise TypeError(f"a name in an object must be a text, not of the type {type(name).__name__}")
                if type(inside) not in _SCALARS:
                    values.append(inside)
        else:
            inside = value if isinstance(value, (list, tuple)) else _attributes(value)
            values += [each for each in inside if type(each) not in _SCALARS]


def _attributes(value: Any) -> list[Any]:
    """Return the values in a Struct or a dataclass. Raise TypeError for a value that msgspec converts."""
    for kind, instead in _CONVERTED.items():
        if isinstance(value, kind):
            raise TypeError(f"a value of the type {kind.__name__} is not JSON: pass {instead}")
    names: Any = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", ())
    return [getattr(value, name, None) for name in names]


def _check_finite(record: Any) -> None:
    """Raise Refused if a record has NaN or infinity. msgspec and pydantic would write null for them."""
    dump = getattr(record, "model_dump", None)
    plain = dump() if callable(dump) else msgspec.to_builtins(record, enc_hook=_dumped, str_keys=True)
    try:
        json.dumps(plain, allow_nan=False, default=lambda value: None)
    except ValueError:
        raise Refused([not_json("NaN and Infinity are not JSON numbers.")]) from None


def _dumped(value: Any) -> Any:
    return value.model_dump() if hasattr(value, "model_dump") else None
