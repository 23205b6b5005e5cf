"""Types whose values msgspec cannot check itself. For each of these values, msgspec calls a function of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

Check = Callable[[Any], bool]


class NumberText(str):
    """The original text of a JSON number with a fraction or an exponent. Other numbers are integers."""

    __slots__ = ()


class _Checked:
    """The base of types whose values a function checks.

    Validation does not need the decoded values, so every value is decoded to the same object.
    """

    check: ClassVar[Check]
    accepted: ClassVar[_Checked]


def checked(check: Check) -> Any:
    """Return a type for msgspec that accepts the values for which `check` returns True.

    `check` gets the value from JSON: a text, an int, a NumberText, a bool, None, a list or a dict.
    """
    kind: Any = type("Checked", (_Checked,), {"check": staticmethod(check)})
    kind.accepted = kind()
    return kind


def _decoded(kind: Any, value: Any) -> _Checked:
    if not kind.check(value):
        raise ValueError("The value is not accepted.")  # msgspec turns it into a ValidationError
    accepted: _Checked = kind.accepted
    return accepted


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return a decoder for validation. The type may contain types from `checked`."""
    return msgspec.json.Decoder(kind, dec_hook=_decoded, float_hook=NumberText)
