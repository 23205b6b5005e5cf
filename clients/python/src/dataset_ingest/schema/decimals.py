"""Exact decimal numbers: `decimal(p,s)` has up to p digits, s of them after the point.

A value is a JSON number, or a string with the text of a JSON number. It is never rounded: a value that does not fit is
invalid. Zeros at the end of a fraction do not count, because the value is the same without them.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from dataset_ingest.schema.explanations import text_of

MAX_DIGITS = 38
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
# Zero with an exponent of more than 18 digits, which the service refuses.
_HUGE_ZERO = re.compile(r"-?[0.]+[eE].*[1-9][0-9]{18}").match


class NumberText(str):
    """A JSON number with a fraction or an exponent, as it is written. Other numbers are integers."""

    __slots__ = ()


class Decimals:
    """The numbers of one `decimal(p,s)`."""

    def __init__(self, digits: int, scale: int) -> None:
        self._digits, self._scale = digits, scale
        self._unit = Decimal(1).scaleb(-scale)
        self._exactly = Context(prec=digits, traps=[Inexact, InvalidOperation])

    def fit(self, value: Any) -> Decimal | None:
        """Return a value from JSON as a Decimal, or None if it does not fit."""
        kind = type(value)
        if kind is not int and kind is not NumberText and (kind is not str or _NUMBER(value) is None):
            return None
        try:
            number = Decimal(value)
            if not number and kind is not int and _HUGE_ZERO(value):
                return None
            return number.quantize(self._unit, None, self._exactly)
        except ArithmeticError:
            return None

    def why_not(self, value: bytes) -> str | None:
        """Return what is wrong with a JSON value that is not one of these numbers, if it is a number or a string."""
        text = value.decode()
        is_text = text.startswith('"')
        if is_text:
            text = text_of(value)
        if _NUMBER(text) is None and not is_text:
            return None
        if _NUMBER(text) is None or _HUGE_ZERO(text):
            return "Write it like 12.50: digits and a point, without spaces, currency signs or thousands separators."
        try:
            number = Decimal(text)
        except ArithmeticError:  # the exponent has 19 digits or more
            number = Decimal(0) if "-" in text[1:] else Decimal("Infinity")
        if number.copy_abs() >= Decimal(10) ** (self._digits - self._scale):
            return f"It has more than {self._digits - self._scale} digits before the point."
        if self._scale == 0:
            return "It has a fraction, and nothing is rounded."
        return f"It has more than {self._scale} digits after the point, and nothing is rounded."
