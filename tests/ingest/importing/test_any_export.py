"""A CSV export of any record can be imported again: every field has the same value afterwards."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasets.schemas.schema import CompiledSchema
from datasets.tables.exports import csv
from datasets.tables.layout import PARTITION
from ingest.importing.cells import CsvSource
from ingest.importing.files import DataFile
from ingest.importing.rows import Options
from ingest.validation.payloads import validate_array
from tests.ingest.validation.test_oracle import as_table, compiled, values
from tests.support.contract.hostile import GOOD, TYPES

FIELDS = {f"f{n}": kind for n, kind in enumerate(kind for kind in TYPES if kind.endswith("?"))}
NUMBER, JSON = (name for name, kind in FIELDS.items() if kind in ("number?", "json?"))
# Texts, and texts in JSON, whose first characters are those of a formula or of the protection against it.
_formulas = st.builds(
    lambda quotes, first, rest: "'" * quotes + first + rest,
    st.integers(0, 3),
    st.sampled_from(["=", "+", "-", "@", "\t", "\r", "\n", '"', "'", " ", "-5", ""]),
    st.text("=-@'\" \r\n\tx,1", max_size=3),
)
_formula_texts = _formulas.map(json.dumps)
_numbers = st.sampled_from(["-0.0", "-0", "-5", "-0.0e1", "-5e-324", "1e22", "-1e300"])
_OWN = {
    "string": _formula_texts,
    "json": st.one_of(_formula_texts, _numbers),
    "number": _numbers,
    "decimal(7,2)": st.sampled_from(["-0", '"-0.00"', "-5"]),
    "integer": st.sampled_from(["-0", "-5"]),
    "string[]": st.lists(_formulas).map(json.dumps),
    "number[]": st.lists(_numbers).map(lambda each: f"[{','.join(each)}]"),
}
_VALUES = {
    name: st.one_of(GOOD[kind], _OWN[kind[:-1]]) if kind[:-1] in _OWN else GOOD[kind] for name, kind in FIELDS.items()
}
_records = st.lists(st.fixed_dictionaries({}, optional=_VALUES), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def schema() -> CompiledSchema:
    return compiled(FIELDS)


def exact(value: Any) -> Any:
    """Return a value that is equal only to the same value: -0.0 == 0.0."""
    if isinstance(value, list):
        return list(map(exact, value))
    return struct.pack("d", value) if isinstance(value, float) else value


@pytest.mark.parametrize("raw", [False, True])
def test_an_imported_csv_export_of_any_record_is_equal(
    schema: CompiledSchema, tmp_path_factory: pytest.TempPathFactory, raw: bool
) -> None:
    path: Path = tmp_path_factory.mktemp("any") / "export.csv"

    def stored(texts: list[bytes]) -> tuple[Any, list[dict[str, Any]]]:
        table = as_table(schema, [validate_array(schema, b"[" + b",".join(texts) + b"]")]).drop_columns(PARTITION)
        return table, [{name: exact(value) for name, value in row.items()} for row in values(table, FIELDS)]

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(_records)
    @example([{NUMBER: "-0.0"}])
    @example([{JSON: "-5"}])
    def check(records: list[dict[str, str]]) -> None:
        sent = [
            b'{"timestamp":"2026-06-10T10:58:00Z","context":{}'
            + b"".join(
                b',"%b":%b' % (name.encode(), value.encode())
                for name, value in record.items()
                if schema.types[name].accepts(value.encode())
            )
            + b"}"
            for record in records
        ]
        table, before = stored(sent)
        path.write_bytes(b"".join(csv(iter(table.to_batches()), raw=raw)))
        rows = list(CsvSource(DataFile(path), Options(raw=raw), schema).rows(0))
        assert [row.problem for row in rows] == [None] * len(rows)
        _, after = stored([row.text for row in rows])
        assert after == before

    check()
