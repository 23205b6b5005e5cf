"""Infer fields from sample records, suggest names for them, and make an example record from fields."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from msgspec import Raw

from datasets.schemas.declarations import MAX_FIELDS, MAX_NAME_CHARACTERS, check_size, field_problems
from datasets.schemas.derived_types import type_of
from datasets.schemas.explanations import json_type
from datasets.schemas.field_types import FIELD_TYPES, FieldType
from datasets.schemas.fields import ALWAYS_THERE, Field, shown

MAX_SAMPLE_RECORDS = 1000
_MAX_VALUE_BYTES = 500  # longer values of a sample are left out of examples
_MAX_EXACT = 2**53  # a double holds every whole number up to this one

# The kind of a value in a sample is the name of a type, or one of these. Each kind of numbers includes the kinds before
# it, and `string` includes all other kinds of texts.
_NUMBERS = ("whole", "long", "huge", "number")  # whole numbers: up to 2^53, up to 64 bits, larger; and any number
_TEXTS = ("timestamp", "date", "uuid", "string")
_EMPTY = "[]"  # an array without elements
# Names of IDs: `id`, `order_id`, `orderId`, `IDs`. A field with such a name and whole numbers gets the type integer,
# because later records will not have fractions there, either.
_ID = re.compile(r"(?:^|[^A-Za-z])[Ii][Dd]s?$|[a-z0-9]I[Dd]s?$").search


@dataclass(slots=True)
class Inferred:
    """Fields inferred from a sample, for an admin to approve, and notes on what the sample does not tell."""

    fields: list[Field] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def infer(text: str, known: Mapping[str, bool] | None = None) -> Inferred:
    """Return the fields of one record, an array of records, or NDJSON.

    A name stays as it is in the sample, even if no field can have it: see `suggested_names`.

    Args:
        text: The sample.
        known: The fields that the dataset has, by name: whether each is optional. The sample does not change them.

    Raises:
        ValidationError: The text is none of these, or it has too many names.
    """
    records = _records(text)
    seen: dict[str, dict[str, int]] = {}  # the first record with each kind of value, by name
    present: Counter[str] = Counter()
    for number, record in enumerate(records, 1):
        present.update(record.keys())
        for name, value in record.items():
            if name not in ALWAYS_THERE:
                seen.setdefault(name, {}).setdefault(_kind(bytes(value)), number)
    if len(seen) > MAX_FIELDS:
        raise ValidationError(
            f"The sample has {len(seen)} fields besides timestamp and context. The limit is {MAX_FIELDS}. "
            "Move the others into context."
        )
    inferred = Inferred(notes=list(_always_there(records)))
    for name, kinds in seen.items():
        is_optional = "null" in kinds or present[name] < len(records)
        kinds.pop("null", None)
        inferred.fields.append(Field(name, _type(name, kinds), optional=is_optional))
        inferred.notes += () if name in (known or {}) else _notes(name, kinds)
    inferred.notes += _notes_on_all(inferred.fields, known or {})
    return inferred


def _notes_on_all(fields: Sequence[Field], known: Mapping[str, bool]) -> Iterator[str]:
    """Yield notes that name several fields. `known` are the fields that the dataset has."""
    unusable = [fields[index].name for index in suggested_names([each.name for each in fields])]
    if new := _quoted(name for name in unusable if name not in known):
        yield (
            f"{new} cannot be field names. Use the names that are suggested at these fields. "
            "Clients must then send the new names."
        )
    optional = [each.name for each in fields if each.optional]
    if new := ", ".join(shown(name) for name in optional if name not in known):
        yield f"Optional, because a record lacks the field or has null: {new}."
    if required := ", ".join(shown(name) for name in optional if not known.get(name, True)):
        yield (
            f"Still required, although a record of the sample lacks the field or has null: {required}. "
            "Mark a field as optional if clients may leave it out."
        )


def _kind(value: bytes) -> str:
    """Return the narrowest kind of a sample's value."""
    found = json_type(value)
    if found == "string":
        return next(each for each in _TEXTS if FIELD_TYPES[each].accepts(value))
    if found == "number":
        return _kind_of_number(value)
    if found == "array":
        return _kind_of_array(value)
    return "json" if found == "object" else found


def _kind_of_number(value: bytes) -> str:
    if FIELD_TYPES["integer"].accepts(value):
        return "whole" if abs(int(value)) <= _MAX_EXACT else "long"
    if not FIELD_TYPES["number"].accepts(value):
        return "json"
    return "huge" if value.strip().removeprefix(b"-").isdigit() else "number"


def _kind_of_array(value: bytes) -> str:
    if FIELD_TYPES["integer[]"].accepts(value):
        numbers = msgspec.json.decode(value, type=list[int])
        if not numbers:
            return _EMPTY
        return "whole[]" if max(map(abs, numbers)) <= _MAX_EXACT else "long[]"
    return next((each for each in ("number[]", "timestamp[]", "string[]") if FIELD_TYPES[each].accepts(value)), "json")


def _type(name: str, kinds: Collection[str]) -> str:
    """Return the type for values of these kinds.

    If no type holds all of them, return json if there is an array or an object, else the type of the first kind.
    """
    kinds = [each for each in kinds if each != _EMPTY] or kinds
    elements = [each.removesuffix("[]") for each in kinds if each.endswith("[]") and each != _EMPTY]
    if kinds and len(elements) == len(kinds):
        widest = _widest(elements)
        return f"{_typed(name, widest)}[]" if widest else "json"
    if elements or not kinds or {"json", _EMPTY} & set(kinds):
        return "json"
    return _typed(name, _widest(kinds) or next(iter(kinds)))


def _widest(kinds: Collection[str]) -> str | None:
    """Return the one kind that holds values of all these kinds, or None."""
    if len(set(kinds)) == 1:
        return next(iter(kinds))
    if set(kinds) <= set(_NUMBERS):
        return max(kinds, key=_NUMBERS.index)
    return "string" if set(kinds) <= set(_TEXTS) else None


def _typed(name: str, kind: str) -> str:
    """Return the type of a kind. It is integer for small whole numbers only if the field's name is that of an ID.

    A column keeps its type forever, and a number that happens to be whole in a sample may get a fraction later.
    """
    if kind == "long" or (kind == "whole" and _ID(name)):
        return "integer"
    return "number" if kind in _NUMBERS else kind


def _notes(name: str, kinds: Mapping[str, int]) -> Iterator[str]:
    """Yield what an admin should know about the type that was chosen."""
    chosen = _type(name, kinds)
    if not kinds:
        yield (
            f"“{shown(name)}” is null in every sample, so its type is unknown. The type json takes any value. "
            "Choose another type if you know it: the type cannot be changed later."
        )
    elif set(kinds) == {_EMPTY}:
        yield (
            f"“{shown(name)}” is an empty array in every sample, so the type of its elements is unknown. The type json "
            "takes any value. Choose another type if you know it: the type cannot be changed later."
        )
    elif chosen == "number" and {"long", "huge"} & set(kinds):
        first = min(number for kind, number in kinds.items() if kind in ("long", "huge"))
        yield (
            f"“{shown(name)}” has more digits in record {first} than a number keeps. "
            "Choose decimal with enough digits to keep it exactly."
        )
    if chosen != "json" and not chosen.endswith("[]") and _widest(kinds) is None:
        (_, first), *others = kinds.items()
        differing = [
            f"{_typed(name, kind)} in record {number}" for kind, number in others if _typed(name, kind) != chosen
        ]
        yield f"“{shown(name)}” is {chosen} in record {first}, but {_and(differing)}: a field has one type."


def _always_there(records: Sequence[Mapping[str, Raw]]) -> Iterator[str]:
    """Yield what clients must change about the timestamp and the context of their records."""
    missing = [name for name in ALWAYS_THERE if any(name not in record for record in records)]
    if missing:
        forms = {"timestamp": "“timestamp”, like 2026-06-10T10:58:00Z", "context": "“context”, an object like {}"}
        yield f"Clients must also send {_and(forms[name] for name in missing)} with each record."
    for number, record in enumerate(records, 1):
        sent = bytes(record.get("timestamp", b'""'))
        if "timestamp" in record and not FIELD_TYPES["timestamp"].accepts(sent):
            why = FIELD_TYPES["timestamp"].why_not(sent)
            yield f"The “timestamp” of record {number} is not valid, and clients must send it differently. {why}"
            break
    for number, record in enumerate(records, 1):
        if json_type(bytes(record.get("context", b"{}"))) != "object":
            yield f"The “context” of record {number} is not an object, and clients must send an object."
            break


def _records(text: str) -> list[dict[str, Raw]]:
    """Return at most MAX_SAMPLE_RECORDS records of a sample. Raise ValidationError if it has none."""
    check_size(text)
    body = text.strip().encode(errors="replace")
    try:
        if body[:1] == b"[":
            records = msgspec.json.decode(body, type=list[dict[str, Raw]])
        else:
            try:
                records = [msgspec.json.decode(body, type=dict[str, Raw])]
            except msgspec.DecodeError:
                lines = [line for line in body.split(b"\n") if line.strip()]
                if len(lines) < 2:
                    raise
                records = [msgspec.json.decode(line, type=dict[str, Raw]) for line in lines]
    except RecursionError as failure:
        raise ValidationError("The values of the sample are nested too deep.") from failure
    except msgspec.DecodeError as failure:
        raise ValidationError(
            f"This is not a record, an array of records, or one record per line: {failure}."
        ) from failure
    if not records:
        raise ValidationError("The sample has no record.")
    return records[:MAX_SAMPLE_RECORDS]


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"“{shown(name)}”" for name in names)


def _and(words: Any) -> str:
    return " and ".join(words)


def suggested_names(names: Sequence[str], earlier: Collection[str] = ()) -> dict[int, str]:
    """Return, by index, a better name for each name that no field can have, or that another field has.

    `Customer Name` becomes `customer_name`, and `2fa` and reserved names get a `_` in front.
    """
    unusable = {index for index, name in enumerate(names) if list(field_problems([Field(name, "string")], earlier))}
    taken = {name.lower() for index, name in enumerate(names) if index not in unusable}
    seen: set[str] = set()
    suggested: dict[int, str] = {}
    for index, name in enumerate(names):
        if name not in ALWAYS_THERE and (index in unusable or name.lower() in seen):
            suggested[index] = _free(_usable(name, index), taken)
            taken.add(suggested[index])
        seen.add(name.lower())
    return suggested


def _usable(name: str, index: int) -> str:
    """Return a valid name that is like another: `Größe (m)` becomes `grosse_m`."""
    plain = "".join(each for each in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(each))
    usable = re.sub(r"[^a-z0-9_]+", "_", plain)
    if not usable.strip("_"):
        return f"field_{index + 1}"
    usable = usable if usable == plain else usable.strip("_")
    is_valid = not list(field_problems([Field(usable[:MAX_NAME_CHARACTERS], "string")]))
    return (usable if is_valid else f"_{usable}")[:MAX_NAME_CHARACTERS]


def _free(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free.lower() in taken:
        number += 1
        free = f"{name[: MAX_NAME_CHARACTERS - 4]}_{number}"
    return free


def example_record(fields: Sequence[Field], sample: str = "") -> str:
    """Return a record for the fields, as JSON on one line. It has the values of a pasted sample if they fit.

    It is valid, except for the fields that `without_example` names.
    """
    record: dict[str, Any] = {"timestamp": "2026-06-10T10:58:00Z", "context": {"source": "example"}}
    types = {each.name: type_of(each) for each in fields}
    record |= {
        name: None if each.optional and not _fits(each, each.example) else each.example for name, each in types.items()
    }
    types["timestamp"] = FIELD_TYPES["timestamp"]
    given = _first(sample)
    names = [name for name in given if name not in ALWAYS_THERE][:MAX_FIELDS]
    renamed = {names[index]: name for index, name in suggested_names(names).items()}
    for sent, value in given.items():
        name = sent if sent in types else renamed.get(sent, sent)
        if name in types and len(value) <= _MAX_VALUE_BYTES and types[name].accepts(value):
            # As a string, a decimal stays exact in every language.
            is_text = types[name].name.startswith("decimal") and json_type(value) == "number"
            record[name] = value.decode().strip() if is_text else json.loads(value)
    return json.dumps(record, ensure_ascii=False)


def without_example(fields: Sequence[Field], sample: str = "") -> list[str]:
    """Return the names of fields whose values in the example record must be replaced: their pattern refuses them."""
    if not any(field.pattern for field in fields):
        return []
    record = json.loads(example_record(fields, sample))
    return [field.name for field in fields if not _fits(type_of(field), record[field.name])]


def _fits(kind: FieldType, value: Any) -> bool:
    return kind.accepts(json.dumps(value).encode())


def _first(sample: str) -> dict[str, bytes]:
    """Return the values of a sample's first record as JSON texts by name, or none if it is not a sample."""
    try:
        return {name: bytes(value) for name, value in _records(sample)[0].items()} if sample.strip() else {}
    except ValidationError:
        return {}
