"""The search of a records page. The address of the page describes it.

A search by the time at which records were received, by record ID, trace ID or receipt reads the table directly. Any
other search is a query, which runs in a query process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode

import msgspec
from django.http import QueryDict

from datasets.models import Dataset
from datasets.queries import language
from datasets.queries.columns import COMPARABLE, NULL_OPERATORS, fields_of, operators, queryable
from datasets.queries.errors import InvalidQuery, QueryProblem
from datasets.queries.execution import filters
from datasets.queries.parsing.values import read_json
from datasets.queries.query import Column, Query
from datasets.tables import records
from datasets.tables.records import Selection
from ingest.admin.searching import listing, receipts
from ingest.admin.searching.forms import DISPLAY, ConditionForm, MomentField, SearchForm, conditions

# A search with one of these inputs needs a query. The inputs `measure` and `of` have an effect only together with
# `group`.
_NEEDS_QUERY = ("sent_from", "sent_to", "sort", "direction", "chart", "group", "cursor")
_CONDITION = ("field", "op", "value")
_EVER = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}
# Maps a path in a query to the input from which this part of the query comes.
_INPUTS_OF_ROWS = {"range.from": "sent_from", "range.to": "sent_to", "orderBy[0].field": "sort"}
_INPUTS_OF_GROUPS = {
    "select[0].field": "group",
    "groupBy[0]": "group",
    "select[1].aggregate": "measure",
    "select[1].field": "of",
    "orderBy[0].field": "of",  # groups are sorted by their values
}
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column of the list.

    Attributes:
        name: The name of the column.
        description: What the column holds.
        address: The address of the same search, sorted by this column. Empty if records cannot be sorted by it.
        sorted: The order of the list, for screen readers. Empty if the list is not sorted by this column.
    """

    name: str
    description: str
    address: str
    sorted: str


_ARIA = {"asc": "ascending", "desc": "descending"}


class Search:
    """A search, with its forms and their errors."""

    def __init__(self, given: QueryDict, dataset: Dataset) -> None:
        self.dataset = dataset
        self.given = given
        self.fields = fields_of(dataset) or []
        self.columns = queryable(self.fields)
        self.form = SearchForm(given, self.columns)
        self.conditions = conditions(given, self.columns)
        self.receipt: dict[str, Any] | None = None  # what the API says about the given receipt
        self._id_prefix = ""  # the beginning of the IDs of the receipt's records
        self._read_receipt()
        self.query = self._checked() if self.needs_query else None

    # -- the inputs

    @property
    def needs_query(self) -> bool:
        """Whether only a query can answer this search."""
        filled = (name for name in _NEEDS_QUERY if self.given.get(name, "").strip())
        return bool(self.filled) or any(self.given[name] != DISPLAY.get(name) for name in filled)

    @property
    def filled(self) -> list[ConditionForm]:
        """The conditions that name a field."""
        return [each for each in self.conditions if each.is_filled]

    @property
    def _readable(self) -> list[ConditionForm]:
        """The conditions whose forms are valid. Their values may still be wrong for the field's type."""
        return [each for each in self.filled if each.is_valid()]

    @property
    def is_valid(self) -> bool:
        """Whether all inputs are valid. If not, the page shows and exports nothing."""
        return self.form.is_valid() and all(each.is_valid() for each in self.filled)

    @property
    def problems(self) -> list[str]:
        """A sentence for each error of an input."""
        forms = (self.form, *self.filled)
        return [str(sentence) for form in forms for sentences in form.errors.values() for sentence in sentences]

    def value(self, name: str) -> Any:
        """Return the value of an input, or a false value if the input is empty or wrong."""
        return self.form.cleaned_data.get(name)

    def _read_receipt(self) -> None:
        text = self.form.cleaned_data.get("receipt") if self.form.is_valid() else None
        if text:
            try:
                self._id_prefix, self.receipt = receipts.find(self.dataset, text)
            except receipts.NoReceipt as reason:
                self.form.fail("receipt", str(reason))

    @property
    def operators(self) -> dict[str, tuple[str, ...]]:
        """The operators of each field. A script of the page offers only these operators."""
        return {name: operators(column) for name, column in self.columns.items()}

    @property
    def lines(self) -> list[tuple[ConditionForm, str | None]]:
        """The conditions, each with the address of the search without it. The last condition is empty."""
        filled = self.filled
        return [
            (form, self.address(without=filled.index(form)) if form in filled else None) for form in self.conditions
        ]

    # -- addresses

    def address(self, *, without: int | None = None, more: Mapping[str, str] | None = None, **changes: str) -> str:
        """Return the query string of the address of this search, with changes. It is empty if no input has a value.

        Args:
            without: The number of a condition to leave out.
            more: A condition to add: its field, op and value.
            changes: New values of inputs. An empty value leaves the input out.
        """
        inputs = {**{name: self.given.get(name, "") for name in self.form.fields}, **changes}
        pairs = [(name, value) for name, value in inputs.items() if value.strip() and value != DISPLAY.get(name)]
        rows = [form.data for number, form in enumerate(self.filled) if number != without]
        for row in (*rows, *([more] if more else [])):
            pairs += [(name, row.get(name, "")) for name in _CONDITION]
        return urlencode(pairs)

    def heads(self, columns: Sequence[tuple[str, str]]) -> list[Head]:
        """Return the heads of the list's columns. A head has a link if records can be sorted by its column."""
        sort, direction = self.value("sort"), self.value("direction") or "desc"
        found = []
        for name, description in columns:
            is_sorted = name == sort
            other = "asc" if is_sorted and direction == "desc" else "desc"
            is_sortable = name in self.columns and self.columns[name].kind in COMPARABLE
            address = self.address(sort=name, direction=other) if is_sortable else ""
            found.append(Head(name, description, address, _ARIA[direction] if is_sorted else ""))
        return found

    # -- the query

    def body(self, **shape: Any) -> dict[str, Any]:
        """Return a query for the records that this search finds, in the query language of the API."""
        first, last = self.value("sent_from"), self.value("sent_to")
        span = {"from": first.isoformat()} if first else {}
        span |= {"to": last.isoformat()} if last else {}
        where = [*map(self._condition, self._readable), *self._request_conditions()]
        return {"range": {**_EVER, **span}, "where": where, **shape}

    def rows_body(self) -> dict[str, Any]:
        """Return the query for a page of the records."""
        names = [each.name for each in self.fields]
        select = [{"field": name} for name in ("timestamp", *names, "context", "__traceId", "ingested_at", "id")]
        order = {"field": self.value("sort") or "id", "direction": self.value("direction") or "desc"}
        cursor = {"cursor": self.given["cursor"]} if self.given.get("cursor") else {}
        return self.body(select=select, orderBy=[order], limit=listing.ROWS, **cursor)

    def groups_body(self, limit: int) -> dict[str, Any]:
        """Return the query for the groups with the greatest values."""
        of = {"field": self.value("of")} if self.value("of") else {}
        return self.body(
            select=[
                {"field": self.value("group"), "as": "value"},
                {"aggregate": self.value("measure") or "count", **of, "as": "result"},
            ],
            groupBy=[self.value("group")],
            orderBy=[{"field": "result", "direction": "desc"}],
            limit=limit,
        )

    def _condition(self, form: ConditionForm) -> dict[str, Any]:
        field, op, value = (form.cleaned_data[name] for name in _CONDITION)
        return {"field": field, "op": op, **_value(self.columns[field], op, value)}

    def _request_conditions(self) -> Iterator[dict[str, Any]]:
        """Yield the conditions on the time at which a record was received, on its trace ID and on its ID."""
        for name, op in (("since", ">="), ("until", "<")):
            if self.value(name):
                yield {"field": "ingested_at", "op": op, "value": self.value(name).isoformat()}
        if self.value("trace"):
            yield {"field": "__traceId", "op": "=", "value": self.value("trace")}
        for prefix in filter(None, (self.value("record"), self._id_prefix)):
            yield {"field": "id", "op": "starts_with", "value": prefix}

    def _checked(self) -> Query | None:
        """Return the query for the records. If the query is invalid, add the errors to the inputs and return None."""
        query = self._parsed(self.rows_body(), _INPUTS_OF_ROWS)
        if self.value("group"):
            self._parsed(self.groups_body(1), _INPUTS_OF_GROUPS)
        return query if self.is_valid else None

    def _parsed(self, body: dict[str, Any], inputs: Mapping[str, str]) -> Query | None:
        readable = self._readable
        try:
            return language.parse(read_json(encoded(body)), self.fields)
        except InvalidQuery as invalid:
            for problem in invalid.problems:
                self._note(problem, inputs, readable)
        return None

    def _note(self, problem: QueryProblem, inputs: Mapping[str, str], readable: Sequence[ConditionForm]) -> None:
        """Add a problem of a query as an error to the input that caused it."""
        where = re.match(r"where\[(\d+)\](?:\.(field|op|value))?", problem.at)
        if where and int(where[1]) < len(readable):
            readable[int(where[1])].fail(where[2] or "field", problem.detail)
            return
        self.form.fail(inputs.get(problem.at), problem.detail)

    # -- exports

    def selection(self) -> Selection:
        """Return the selection of exactly the records that this search finds."""
        if self.query is not None:
            return Selection(terms=filters.terms(self.query, records.columns(self.dataset)))
        return Selection(
            since=self.value("since"),
            until=self.value("until"),
            trace_id=self.value("trace"),
            record_id=self.value("record"),
            request=self._id_prefix,
        )


def encoded(body: Mapping[str, Any]) -> bytes:
    """Return a query as JSON. Decimals keep their digits."""
    return _encode(body)


def _value(column: Column, op: str, text: str) -> dict[str, Any]:
    """Return the member `value` of a condition, made from the text that the user typed.

    Return no member if the operator takes no value, or if the text is empty and the column's type is not string.
    """
    kind = column.type.removesuffix("[]").partition("(")[0]
    if op in NULL_OPERATORS:
        return {}
    if op in ("in", "not_in"):
        return {"value": [_scalar(kind, part.strip()) for part in text.split(",")]}
    if not text.strip() and kind != "string":
        return {}
    return {"value": _scalar(kind, text)}


def _scalar(kind: str, text: str) -> Any:
    """Convert a text to a JSON value of a type. If that fails, return the text, so that the query reports the error."""
    if kind in ("number", "integer", "decimal"):
        try:
            number = Decimal(text.strip())
        except InvalidOperation:
            return text
        return number if number.is_finite() else text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if kind == "timestamp":
        moment = MomentField.read(text)
        return text if moment is None else moment.isoformat()
    return text if kind == "string" else text.strip()
