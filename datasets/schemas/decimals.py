"""Exact decimal numbers: `decimal(p,s)` has up to p digits, s of them after the point.

A value is a JSON number, or a string that is spelled like one. It is never rounded: a value that does not fit is
invalid. Zeros at the end of a fraction do not count, because the value is the same without them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import msgspec

from config.lazy import pyarrow as pa
from datasets.schemas.checked import NumberText

MAX_DIGITS = 38  # what 128 bits hold

# RFC 8259, section 6
NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(NUMBER).fullmatch
# Zero with an exponent of more than 18 digits. Decimal, with which workers read numbers, cannot hold all of these.
_HUGE_ZERO = re.compile(r"-?[0.]+[eE].*[1-9][0-9]{18}").match


class Decimals:
    """The numbers of one `decimal(p,s)`."""

    def __init__(self, digits: int, scale: int) -> None:
        self.digits, self.scale = digits, scale
        self._unit = Decimal(1).scaleb(-scale)
        self._exactly = Context(prec=digits, traps=[Inexact, InvalidOperation])

    def fit(self, value: Any) -> Decimal | None:
        """Return a value from JSON as a Decimal, or None if it does not fit."""
        kind = type(value)
        if kind is not int and kind is not NumberText and (kind is not str or _NUMBER(value) is None):
            return None
        try:
            number = Decimal(value)
            return None if not number and kind is not int and _HUGE_ZERO(value) else self._fitted(number)
        except ArithmeticError:
            return None

    def _fitted(self, number: Decimal) -> Decimal:
        """Return a number with `scale` digits after the point. Raise ArithmeticError if it does not fit."""
        return number.quantize(self._unit, None, self._exactly)

    def column(self, numbers: Sequence[Decimal | None]) -> pa.Array:
        """Return an Arrow column of numbers. Raise ArrowInvalid if one does not fit."""
        # Arrow must not see a number as it was sent: it reads 7.000...0 with 77 zeros as 0, and crashes with 0e-99999.
        try:
            fitted = [None if each is None else self._fitted(each) for each in numbers]
        except ArithmeticError:
            raise pa.ArrowInvalid(f"a number does not fit into decimal({self.digits},{self.scale})") from None
        return pa.array(fitted, pa.decimal128(self.digits, self.scale))

    def why_not(self, value: bytes) -> str | None:
        """Return why a JSON number or string is not one of these numbers. Return None for any other JSON value."""
        text = value.decode()
        is_text = text.startswith('"')
        if is_text:
            text = msgspec.json.decode(value, type=str)
        if _NUMBER(text) is None and not is_text:
            return None
        if _NUMBER(text) is None or _HUGE_ZERO(text):
            return "Write it like 12.50: digits and a point, without spaces, currency signs or thousands separators."
        try:
            number = Decimal(text)
        except ArithmeticError:  # the exponent has 19 digits or more
            number = Decimal(0) if "-" in text[1:] else Decimal("Infinity")
        if number.copy_abs() >= Decimal(10) ** (self.digits - self.scale):
            return f"It has more than {self.digits - self.scale} digits before the point."
        if self.scale == 0:
            return "It has a fraction, and nothing is rounded."
        return f"It has more than {self.scale} digits after the point, and nothing is rounded."
