"""What a change of a schema means: which changes are allowed, and what they do to records and rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError

from datasets.schemas.constraints import CONSTRAINTS
from datasets.schemas.declarations import MAX_FIELDS, field_problems
from datasets.schemas.fields import Field


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two versions, in words.

    Attributes:
        kind: "added", "removed", "changed", "described", "moved" or "refused".
        field: The name of the field, or "order" if only the order changed.
        meaning: What the change means for records and rows.
    """

    kind: str
    field: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """Why a version cannot be published. `index` is the position of the field, or None for all fields together."""

    index: int | None
    text: str


def differences(before: Sequence[Field], after: Sequence[Field], *, with_grace: bool = False) -> Iterator[Change]:
    """Yield what happens to records and rows when the fields `after` follow the fields `before`.

    `with_grace` says whether the fields `before` stay valid for a grace period.
    """
    when = "after the grace period" if with_grace else "from now on"
    old, new = {field.name: field for field in before}, {field.name: field for field in after}
    for name, field in new.items():
        if name not in old:
            need = "optional" if field.optional else "required" + (f" {when}" if before else "")
            said = "; ".join((field.type, need, *details(field)))
            yield Change("added", name, f"{said}." + (" Older rows are null." if before else ""))
        elif old[name].type != field.type:
            yield Change(
                "refused", name, f"A column keeps its type, {old[name].type}. Add a field with a new name instead."
            )
        else:
            yield from _changes(old[name], field, when)
    for name in old:
        if name not in new:
            yield Change("removed", name, f"Records with it are refused {when}. Its column and values stay.")
    kept = [name for name in old if name in new]
    if kept != [name for name in new if name in old]:
        yield Change("moved", "order", "The order of the fields changes. Nothing changes for records or rows.")


def in_short(before: Sequence[Field], after: Sequence[Field]) -> str:
    """Return the differences in one line for the change log, or an empty text if there is none."""
    found = [f"{each.kind} {each.field}" for each in differences(before, after)]
    return f"Schema: {'; '.join(found)}." if found else ""


def _changes(before: Field, after: Field, when: str) -> Iterator[Change]:
    """Yield what the change of a field means for records and rows. The field keeps its type.

    `when` says in words from when on records that match only the fields before are refused.
    """
    name = after.name
    if after.optional and not before.optional:
        yield Change("changed", name, "Optional from now on: a record may leave it out, or have null.")
    elif before.optional and not after.optional:
        yield Change("changed", name, f"Required {when}: records without it, or with null, are refused.")
    more = [value for value in after.values if value not in before.values]
    less = [value for value in before.values if value not in after.values]
    if more:
        yield Change("changed", name, f"Also accepts {_quoted(more)}.")
    if less:
        yield Change("changed", name, f"Records with {_quoted(less)} are refused {when}. Older rows keep it.")
    for what in CONSTRAINTS:
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            was, now = ("none" if value is None else f"“{value}”" for value in (old, new))
            yield Change("changed", name, f"{what}: {was} becomes {now} for new records. Older rows stay.")
    for what in ("description", "unit"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            label = "Unit: " if what == "unit" else ""
            yield Change("described", name, f"{label}“{old}” becomes “{new}”.")


def in_words(field: Field) -> str:
    """Return what values a field has, for a page: `decimal(10,2); optional; unit: EUR`."""
    return "; ".join((field.type, *(("optional",) if field.optional else ()), *details(field)))


def details(field: Field) -> Iterator[str]:
    """Yield what a field says about its values, except its type and whether it is optional."""
    if field.values:
        yield f"values: {_quoted(field.values)}"
    for name, words in _CONSTRAINTS_IN_WORDS.items():
        limit = getattr(field, name)
        if limit is not None:
            yield words.format(limit)
    if field.unit:
        yield f"unit: {field.unit}"


_CONSTRAINTS_IN_WORDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "min_length": "length at least {}",
    "max_length": "length at most {}",
    "pattern": "matching {}",
}


def _quoted(values: Sequence[str]) -> str:
    """Return the first ten values in quotes, and the number of the others."""
    others = f" and {len(values) - 10} others" if len(values) > 10 else ""
    return ", ".join(f"“{value}”" for value in values[:10]) + others


def problems(
    earlier: Sequence[Sequence[Field]], fields: Sequence[Field], *, with_grace: bool = False
) -> list[FieldProblem]:
    """Return all reasons why the fields cannot be the next version: see `successor_problems`."""
    names = {field.name for version in earlier for field in version}
    found = [FieldProblem(index, text) for index, text in field_problems(fields, names)]
    if len(fields) > MAX_FIELDS:
        return found
    return found + [
        FieldProblem(index, text) for index, text in successor_problems(earlier, fields, with_grace=with_grace)
    ]


def check_successor(earlier: Sequence[Sequence[Field]], fields: Sequence[Field], *, with_grace: bool = False) -> None:
    """Raise ValidationError if the fields cannot be the next version: see `successor_problems`."""
    found = [text for _, text in successor_problems(earlier, fields, with_grace=with_grace)]
    if found:
        raise ValidationError(found)


def successor_problems(
    earlier: Sequence[Sequence[Field]], fields: Sequence[Field], *, with_grace: bool = False
) -> Iterator[tuple[int, str]]:
    """Yield each field that cannot follow the earlier versions: its index, the reason, and what to do instead.

    A column keeps its type and spelling forever, because readers must understand all rows. A field that clients may
    leave out can become required only with a grace period, because clients need time to learn of the change.

    Args:
        earlier: All published versions, because the column of a removed field stays in the table.
        fields: The fields of the next version.
        with_grace: Whether the version in force gets a grace period.
    """
    columns = {field.name.lower(): field for version in earlier for field in version}
    in_force = {field.name: field for field in earlier[-1]} if earlier else {}
    for index, field in enumerate(fields):
        column = columns.get(field.name.lower())
        if column is None:
            continue
        if column.type != field.type:
            yield (
                index,
                f"“{field.name}” is stored as {column.type} and cannot become {field.type}: "
                f"add a field with a new name instead.",
            )
        elif column.name != field.name:
            yield index, f"“{field.name}”: the table already has the column “{column.name}”; use that spelling."
        elif field.name in in_force and in_force[field.name].optional and not field.optional and not with_grace:
            yield (
                index,
                f"“{field.name}” is optional, so clients may leave it out. It can become required only with a grace "
                "period, in which the previous version stays valid.",
            )
