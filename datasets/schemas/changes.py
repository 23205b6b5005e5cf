"""What a change of a schema means: shown before it is published, and in the history after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datasets.schemas.schema import MAX_FIELDS, Field, field_problems, successor_problems


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions, in words.

    Attributes:
        kind: "added", "removed", "described", "moved" or "refused".
        field: The name of the field, or "order" if only the order changed.
        meaning: What the change means for records and rows.
    """

    kind: str
    field: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a version cannot be published. `index` is the position of the field, None for all fields together."""

    index: int | None
    text: str


def differences(before: Sequence[Field], after: Sequence[Field]) -> Iterator[Change]:
    """Yield what happens to records and rows when the fields `after` follow the fields `before`."""
    old, new = {field.name: field for field in before}, {field.name: field for field in after}
    for name, field in new.items():
        if name not in old:
            meaning = f"{field.type}; required" + (" from now on. Older rows are null." if before else ".")
            yield Change("added", name, meaning)
        elif old[name].type != field.type:
            yield Change(
                "refused", name, f"A column keeps its type, {old[name].type}. Add a field with a new name instead."
            )
        elif old[name].description != field.description:
            yield Change("described", name, f"“{old[name].description}” becomes “{field.description}”.")
    for name in old:
        if name not in new:
            yield Change("removed", name, "Records with it are refused from now on. Its column and values stay.")
    kept = [name for name in old if name in new]
    if kept != [name for name in new if name in old]:
        yield Change("moved", "order", "The order of the fields changes. Nothing changes for records or rows.")


def problems(earlier: Sequence[Sequence[Field]], fields: Sequence[Field]) -> list[Problem]:
    """Return all reasons why the fields cannot be the next version. `earlier` are all published versions."""
    names = {field.name for version in earlier for field in version}
    found = [Problem(index, text) for index, text in field_problems(fields, names)]
    if len(fields) > MAX_FIELDS:
        return found
    return found + [Problem(index, text) for index, text in successor_problems(earlier, fields)]
