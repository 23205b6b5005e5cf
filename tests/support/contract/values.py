"""Values of the newer field types as JSON text: valid values, and values that are nearly valid."""

import json

from hypothesis import strategies as st

from tests.support.contract.field_types import VALUES

_INTEGERS = [
    "0", "-0", "7", "-1", "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
    "-9223372036854775809", "1.0", "1e3", "-0.0", "1E0", "1" * 30, "1" * 5000,
]  # fmt: skip
_DECIMALS = [
    "0", "-0", "0.0", "12.5", "12.50", "12.500", "12.505", "99999.99", "-99999.99", "100000", "1e4", "1e5", "125e-2",
    "1e-2", "1e-3", "0e999999999", "1e999999999", "1e-999999999", "1e" + "9" * 40,
    "0e" + "9" * 18, "0.0e" + "0" * 20 + "7", "0e1" + "0" * 18, "-0.0e-1" + "0" * 18, "0E+" + "9" * 40,
    "0." + "0" * 400, "0." + "0" * 400 + "1",
    "1234567890123456789012345678.0123456789", "12345678901234567890123456789", "0.0000000001", "0.00000000001",
]  # fmt: skip
_NO_DECIMALS = ["", " 1", "1 ", "+1", ".5", "5.", "01", "1_0", "1,5", "NaN", "Infinity", "0x1", "\u0661", "1\\n", "--1"]
_DATES = [
    "2026-06-10", "0001-01-01", "9999-12-31", "2024-02-29", "2026-02-29", "1900-02-29", "0000-01-01", "2026-13-01",
    "2026-6-1", "20260610", "2026-06-10Z", " 2026-06-10", "2026-W24-3", "2026-161", "10000-01-01", "\\u0032026-06-10",
    "2026-06-10\\n",
]  # fmt: skip
_UUIDS = [
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "f81d4fae7dec11d0a76500a0c91e6bf6",
    "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}", "f81d4fae-7dec-11d0-a765-00a0c91e6bfg",
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6\\n", "\\u00661d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "f81d4fae7-dec-11d0-a765-00a0c91e6bf6",
]  # fmt: skip
_ENUMS = [*VALUES, *VALUES, "A", "a ", "c", ""]

Values = st.SearchStrategy[str]


def _plain(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _quoted(texts: list[str]) -> list[str]:
    return [f'"{text}"' for text in texts]


def _arrays(elements: Values) -> Values:
    """Return arrays, some of them with an element that is null, nested or of another type."""
    odd = st.sampled_from(["null", "[]", "1", '"x"', "{}"])
    return st.lists(st.integers(0, 15).flatmap(lambda chance: elements if chance else odd), max_size=3).map(
        lambda values: "[" + " , ".join(values) + "]"
    )


def new_values(old: dict[str, Values], trees: Values) -> dict[str, Values]:
    """Return values of the newer types, most of them valid. `trees` are any JSON values."""
    integers = st.one_of(st.integers(-(2**63), 2**63 - 1).map(str), st.sampled_from(_INTEGERS))
    decimals = st.one_of(
        st.integers(-9_999_999, 9_999_999).map(lambda number: f'"{number / 100:.2f}"'),
        st.sampled_from([*_DECIMALS, *_quoted([*_DECIMALS, *_NO_DECIMALS])]),
    )
    found: dict[str, Values] = {
        "integer": integers,
        "decimal(7,2)": decimals,
        "decimal(38,10)": decimals,
        "date": st.one_of(st.dates().map(lambda day: f'"{day}"'), st.sampled_from(_quoted(_DATES))),
        "uuid": st.one_of(st.uuids().map(lambda each: f'"{each}"'), st.sampled_from(_quoted(_UUIDS))),
        "json": trees,
        "enum": st.sampled_from(
            [json.dumps(text, ensure_ascii=escaped) for text in _ENUMS for escaped in (True, False)]
        ),
        "string[]": _arrays(old["string"]),
        "number[]": _arrays(old["number"]),
        "integer[]": _arrays(integers),
        "timestamp[]": _arrays(old["timestamp"]),
    }
    optional = {f"{name}?": st.one_of(each, st.just("null")) for name, each in (old | found).items()}
    return found | optional
